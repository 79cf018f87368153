"""A stand-in for ms-swift: it starts, logs, saves, resumes and fails as ms-swift 4.6 does, and trains nothing.

`running.fake_engine` adds the argument files, made from the flags that tunekit ships.
"""
