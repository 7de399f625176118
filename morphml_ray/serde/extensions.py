"""What plain data adds to msgpack: the numbers of the extension types, which never change."""

TUPLE = 1
SET = 2
FROZENSET = 3
PAIRS = 4  # a dict whose keys msgpack cannot hold: key, value, key, value
INTEGER = 5  # beyond 64 bits
TEXT = 6  # with lone surrogates
BYTES = 7  # in a buffer
BYTEARRAY = 8
COMPLEX = 9
DATETIME = 10
DATE = 11
TIMEDELTA = 12
DECIMAL = 13
UUID = 14
NUMPY_ARRAY = 20
NUMPY_SCALAR = 21
NUMPY_TEXT = 22
NUMPY_BYTES = 23

# Containers in containers; deeper values are pickled, and deeper bytes are refused.
MAX_DEPTH = 100


class NotPlainError(Exception):
    """The value is no plain data; inside ``serde`` only."""
