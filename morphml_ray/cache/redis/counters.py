"""Adding to a counter once, however often the same call arrives."""

from morphml_ray.cache.redis.pool import Command

# How long a call that is repeated finds the answer of the first.
_REMEMBERED_S = 600
# The total is read as text: a number of Lua has 53 bits. INCRBY alone may fail for what the value is, and its error is
# the reply then.
_SCRIPT = """\
local told = redis.call('GET', KEYS[2])
if told then return told end
local reply = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(reply) == 'table' then return reply end
local total = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[2], total, 'EX', ARGV[2])
return total
"""


def increment_once(name: bytes, amount: int, operation: bytes) -> Command:
    """Give the command that adds to a counter, and replies with its value as text.

    Args:
        name: of the counter.
        amount: what is added.
        operation: the name of a key that no other call has; it keeps the answer for ten minutes.
    """
    return ("EVAL", _SCRIPT, 2, name, operation, amount, _REMEMBERED_S)
