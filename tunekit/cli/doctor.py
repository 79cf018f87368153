"""stub"""


def doctor() -> None:
    """X"""
