"""Architecture identity: two workers that build the same network get the same key."""

from morphml_ray.identity.codecs import register_codec
from morphml_ray.identity.keys import EncodedArchitecture, Identity, decode_architecture, encode_architecture

__all__ = ["EncodedArchitecture", "Identity", "decode_architecture", "encode_architecture", "register_codec"]
