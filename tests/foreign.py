"""ClickMe shards as somebody else would write them: checksums, framing and messages from their specifications alone."""

import io
import struct

import numpy as np
from PIL import Image


def crc_table():
    """CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), bit by bit."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc_table()


def masked(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(number):
    number &= 2**64 - 1
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(**features):
    """tf.train.Example by its wire format: features (1) > entry (1) > key (1), value (2) > bytes (1) or int64 (3)."""
    entries = b""
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], bytes):
            listed = field(1, b"".join(field(1, one) for one in values))
        else:
            listed = field(3, field(1, b"".join(map(varint, values))))
        entries += field(1, field(1, name.encode()) + field(2, listed))
    return field(1, entries)


def shard(path, *payloads):
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + masked(length) + payload + masked(payload))
    return path


def encoded(pixels, kind="JPEG", mode=None):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def raw(image, heatmap, label, **more):
    return example(image=image.astype("<f4").tobytes(), heatmap=heatmap.astype("<f4").tobytes(), label=label, **more)


def drawn(side, seed=0):
    """uint8 image and map with both extremes."""
    rng = np.random.default_rng(seed)
    image = np.kron(rng.integers(0, 256, (side // 8, side // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    heatmap = np.kron(rng.integers(1, 255, (side // 8, side // 8)), np.ones((8, 8))).astype(np.uint8)
    image[0, 0], image[0, 1], heatmap[0, 0], heatmap[0, 1] = 0, 255, 0, 255
    return image, heatmap
