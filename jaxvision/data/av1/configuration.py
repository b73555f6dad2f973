"""How libaom's encoder is configured: a structure of its own, checked before it is believed."""

import ctypes

from jaxvision.data.av1 import structs
from jaxvision.data.av1.structs import AomError, Library

ABI_VERSIONS = range(20, 60)  # it is 29 in 3.6, and rises with releases
# Of usage 0, the same from 3.6 to 3.14.
KNOWN_DEFAULTS = {
    "width": 320,
    "height": 240,
    "depth": 8,
    "input_depth": 8,
    "time_base": (1, 30),
    "rate_control": 0,
    "statistics": (0, 0, 0, 0),
    "bitrate": 256,
    "least_quantizer": 0,
    "greatest_quantizer": 63,
    "key_frames": 1,
    "least_key_distance": 0,
    "greatest_key_distance": 9999,
}


def defaults(library: Library, usage: int) -> structs.EncoderConfig:
    """libaom's own defaults; those of usage 0 show whether the structure is the known one."""
    found = _told(library, 0)
    for name, wanted in KNOWN_DEFAULTS.items():
        value = getattr(found, name)
        value = tuple(value) if isinstance(value, ctypes.Array) else value
        if value != wanted:
            raise AomError(
                f"the layout of libaom {library.version} changed: its default {name} reads as"
                f" {value}, not {wanted}; use another version (3.6 to 3.14 are known)"
            )
    return _told(library, usage)


def _told(library: Library, usage: int) -> structs.EncoderConfig:
    config = structs.EncoderConfig()
    code = library.lib.aom_codec_enc_config_default(
        library.lib.aom_codec_av1_cx(), ctypes.byref(config), usage
    )
    if code != structs.OK or config.usage != usage:
        raise AomError(f"libaom {library.version} has no defaults of usage={usage} ({code})")
    return config


def started(library: Library, config: structs.EncoderConfig, flags: int) -> ctypes.Array:
    """The context of an encoder; the version of its interface differs from release to release."""
    context = ctypes.create_string_buffer(structs.CONTEXT)
    interface = library.lib.aom_codec_av1_cx()
    for version in ABI_VERSIONS:
        code = library.lib.aom_codec_enc_init_ver(
            context, interface, ctypes.byref(config), flags, version
        )
        if code == structs.OK:
            return context
        if code != structs.ABI_MISMATCH:
            raise library.error(context, code, "the encoder does not start")
    raise AomError(f"libaom {library.version} has an unknown version of its encoder's interface")
