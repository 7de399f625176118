"""Values to bytes and back: plain data as msgpack, anything else as a signed pickle that is never read unverified."""

from morphml_ray.serde.codec import decode, encode, encode_parts
from morphml_ray.serde.pickled import Pickler
from morphml_ray.serde.signing_key import SigningKey, load_signing_key

__all__ = ["Pickler", "SigningKey", "decode", "encode", "encode_parts", "load_signing_key"]
