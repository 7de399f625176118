"""Handles: what stands for a value that is elsewhere, or not there yet, and is no value itself."""

from concurrent.futures import Future
from typing import Any

_REFERENCE = "is a reference, which means nothing to others: ray.get() it first"
_ACTOR = "is a handle, which dies with its cluster: keep the actor's name, and find it with ray.get_actor()"
# By name, since the model knows nothing of Ray, which has moved these classes between its modules.
_RAY = {
    "ObjectRef": _REFERENCE,
    "ObjectRefGenerator": _REFERENCE,
    "DynamicObjectRefGenerator": _REFERENCE,
    "ActorHandle": _ACTOR,
    "ActorMethod": _ACTOR,
}


def remedy_for(value: Any) -> str | None:
    """Say of a handle what it is and what to do; None for anything else.

    Args:
        value: a reference or an actor of Ray, an awaitable, a future; or any value.
    """
    kind = type(value)
    for cls in kind.__mro__:
        if cls.__name__ in _RAY and cls.__module__.partition(".")[0] == "ray":
            return f"{_article(cls.__name__)} {_RAY[cls.__name__]}"
    if hasattr(kind, "__await__"):
        return f"{_article(kind.__name__)} is not done yet: await it first"
    if issubclass(kind, Future):
        return f"{_article(kind.__name__)} is not done yet: store its result()"
    return None


def _article(name: str) -> str:
    return f"{'an' if name[:1].upper() in 'AEIOU' else 'a'} {name}"
