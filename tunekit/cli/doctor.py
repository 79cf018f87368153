"""stub"""
def doctor() -> None:
    """x"""
