"""The functions that python.py maps: a file of their own, as devices are sent all of it."""


def tiny(x: int) -> int:
    """Do next to nothing."""
    return x + 1


def ten_ms(x: int) -> int:
    """Take about 10 ms of native Python on a server of 2020, alone on its core."""
    total = x
    for number in range(170_000):
        total = (total + number * number) & 0xFFFF
    return total
