"""Entries of the log as bytes, signed for their place, and back.

::

    C1 "mrlog" format  key id (4)  msgpack  checksum (8)  signature (32)

The signature is keyed BLAKE3 over all before it, for the key of the object: an entry of another experiment, or of
another number, is refused. The checksum, BLAKE3 of what stands before it, tells damage from a foreign signature.
Nothing is parsed before both are good. An entry has at most 8 MiB: it is always one single conditional PUT, since
conditional completions of multipart uploads have several winners on real servers.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from blake3 import blake3
from msgspec import Struct

from morphml_ray.checkpoints.manifest import CheckpointRecord, Entry, LogState, State, Table
from morphml_ray.checkpoints.names import Place
from morphml_ray.errors import CorruptDataError, UntrustedDataError, ValidationError
from morphml_ray.serde.signing_key import SIGNATURE_BYTES, SigningKey

FORMAT = 1
MAX_ENTRY_BYTES = 8 * 1024 * 1024
MAX_TABLE_BYTES = 256 * 1024 * 1024
_MAGIC = b"\xc1mrlog"
_PREFIX_BYTES = len(_MAGIC) + 1
_KEY_ID_BYTES = 4
_CHECKSUM_BYTES = 8
_LEAST_BYTES = _PREFIX_BYTES + _KEY_ID_BYTES + 1 + _CHECKSUM_BYTES + SIGNATURE_BYTES
# What msgspec raises on bytes or values that are none of ours; RecursionError: nested too deep.
_BROKEN = (msgspec.MsgspecError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)

_encode = msgspec.msgpack.Encoder().encode
_S = TypeVar("_S", bound=Struct)


def seal(entry: Entry, place: Place, key: SigningKey) -> bytes:
    """Write an entry as the bytes of its object.

    Args:
        entry: its number says which object.
        place: of its experiment.
        key: signs it.

    Raises:
        ValidationError: it is larger than an entry may be, or a field has a value that would not be read back.
    """
    try:
        body = _encode(_entry_to_wire(entry))
        _entry_from_wire(msgspec.msgpack.decode(body), entry.sequence)
    except _BROKEN as error:
        raise ValidationError(f"{_named(place, entry.sequence)} cannot be written: {error}") from error
    covered = _MAGIC + bytes([FORMAT]) + key.id + body
    covered += blake3(covered).digest(_CHECKSUM_BYTES)
    sealed = covered + key.sign([covered], place.entry_key(entry.sequence))
    if len(sealed) > MAX_ENTRY_BYTES:
        raise ValidationError(
            f"{_named(place, entry.sequence)} would have {len(sealed)} bytes, at most {MAX_ENTRY_BYTES}: keep fewer "
            f"than its {len(entry.log.live)} checkpoints, or fewer metrics with each"
        )
    return sealed


def unseal(data: bytes, place: Place, sequence: int, key: SigningKey) -> Entry:
    """Check and read an entry.

    Args:
        data: the bytes of its object.
        place: of the experiment that it was read for.
        sequence: the number that it was read under.
        key: what it must have been signed with.

    Raises:
        CorruptDataError: damaged, cut off, of a newer format, or no entry at all.
        UntrustedDataError: undamaged, and signed by another key or for another place.
    """
    covered, signature = memoryview(data)[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    _check_whole(data, covered, _named(place, sequence))
    if not key.verifies(covered, signature, place.entry_key(sequence)):
        key_id = data[_PREFIX_BYTES:][:_KEY_ID_BYTES]
        cause = (
            f"it names the signing key {key_id.hex()}, and this process has {key.id.hex()}: give all nodes the same "
            "key, set MORPHML_SIGNING_KEY on each of them"
            if key_id != key.id
            else "it was signed for another experiment or number, or damaged, or forged"
        )
        raise UntrustedDataError(f"{_named(place, sequence)} was refused, unread: {cause}")
    try:
        body = covered[_PREFIX_BYTES + _KEY_ID_BYTES : -_CHECKSUM_BYTES]
        entry = _entry_from_wire(msgspec.msgpack.decode(body), sequence)
        _check_sense(entry, place)
    except _BROKEN as error:
        raise CorruptDataError(
            f"{_named(place, sequence)} is damaged, though its signature is good: {error}"
        ) from error
    return entry


def encode_table(table: Table) -> bytes:
    """Write the rows of a state as bytes, to be stored as chunks."""
    return _encode(table)


def decode_table(data: bytes | memoryview) -> Table:
    """Read what ``encode_table`` wrote.

    Raises:
        CorruptDataError: it is none.
    """
    try:
        return msgspec.msgpack.decode(data, type=Table)
    except _BROKEN as error:
        raise CorruptDataError(f"the table of buffers of a checkpoint is damaged: {error}") from error


def _check_whole(data: bytes, covered: memoryview, name: str) -> None:
    if not data.startswith(_MAGIC) or not _LEAST_BYTES <= len(data) <= MAX_ENTRY_BYTES:
        raise CorruptDataError(f"{name} is damaged or cut off: its {len(data)} bytes are no entry of a log")
    if blake3(covered[:-_CHECKSUM_BYTES]).digest(_CHECKSUM_BYTES) != covered[-_CHECKSUM_BYTES:]:
        raise CorruptDataError(f"{name} is damaged or cut off: its checksum does not fit its bytes")
    if data[_PREFIX_BYTES - 1] != FORMAT:
        raise CorruptDataError(
            f"{name} has format {data[_PREFIX_BYTES - 1]}, and this version of morphml_ray reads format {FORMAT}: "
            "upgrade morphml_ray to the version that wrote it"
        )


def _check_sense(entry: Entry, place: Place) -> None:
    """Refuse an entry whose fields contradict each other."""
    numbers = [record.sequence for record in entry.log.live]
    own = entry.record_of(entry.sequence, entry.write_id)
    newest = max([*numbers, entry.log.epoch, entry.log.era, *(number for number, _ in entry.log.recent)], default=0)
    if (
        entry.experiment != place.experiment
        or numbers != sorted(set(numbers))
        or newest > entry.sequence
        or (own is None) != (entry.state is None)
    ):
        raise ValueError("its fields contradict each other")


def _entry_to_wire(entry: Entry) -> dict[str, Any]:
    log = _to_wire(entry.log) | {"live": [_to_wire(record) for record in entry.log.live]}
    wire = _to_wire(entry) | {"log": log, "state": None if entry.state is None else _to_wire(entry.state)}
    del wire["sequence"]
    return wire


def _entry_from_wire(wire: Any, sequence: int) -> Entry:
    log = wire["log"]
    live = tuple(_from_wire(record, CheckpointRecord) for record in log["live"])
    state = None if wire.get("state") is None else _from_wire(wire["state"], State)
    return _from_wire(wire, Entry, sequence=sequence, log=_from_wire(log, LogState, live=live), state=state)


def _to_wire(value: Struct) -> dict[str, Any]:
    extra: Mapping[str, Any] = getattr(value, "extra")  # noqa: B009 - not all structs have one
    return {**extra, **{name: getattr(value, name) for name in value.__struct_fields__ if name != "extra"}}


def _from_wire(wire: Any, kind: type[_S], **parts: Any) -> _S:
    """Read a map; ``parts`` are fields that were read before."""
    known = [name for name in kind.__struct_fields__ if name != "extra"]
    fields = {name: wire[name] for name in known if name in wire} | parts
    fields["extra"] = {name: value for name, value in wire.items() if name not in known}
    return msgspec.convert(fields, kind)


def _named(place: Place, sequence: int) -> str:
    return f"The entry {place.entry_key(sequence)} of the checkpoints of {place.experiment!r}"
