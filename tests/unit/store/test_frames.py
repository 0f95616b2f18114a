"""The frames of a journal: what is whole is read, what is not is never taken for whole."""

from hypothesis import example, given
from hypothesis import strategies as st

from nexa_core.records import encode_json
from nexa_core.store.frames import encode_frame, scan_frames

TEXT = st.text('aé😀"\\\n\0\ud800', max_size=6)  # a lone surrogate too
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
FRAMES = st.lists(st.dictionaries(TEXT, VALUES, max_size=3), max_size=4)
SEGMENT = [{"call_id": f"c{n}", "text": "5 µm at 20 °C\n" * n} for n in range(4)]


@given(FRAMES)
def test_frames_come_back_as_they_went_in(frames):
    """Whatever JSON can say, line feeds and lone surrogates included, survives the journal."""
    scan = scan_frames(b"".join(map(encode_frame, frames)))
    assert (scan.frames, scan.torn_bytes, scan.damaged_at) == (frames, 0, None)


@given(VALUES, VALUES)
@example(2**64, -(2**63) - 1)
def test_what_is_json_already_is_taken_as_it_is(reply, other):
    """A reply is encoded once, for the journal and for the record of its call."""
    scan = scan_frames(encode_frame({"reply": encode_json(reply), "other": other}))
    assert scan.frames == [{"reply": reply, "other": other}]


@given(FRAMES, st.data())
def test_a_cut_leaves_the_longest_whole_prefix(frames, data):
    """Cut anywhere, a segment yields exactly the frames that end before the cut, and no damage."""
    encoded = [encode_frame(frame) for frame in frames]
    whole = b"".join(encoded)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [len(b"".join(encoded[: n + 1])) for n in range(len(encoded))]
    kept = sum(end <= cut for end in ends)
    scan = scan_frames(whole[:cut])
    assert scan.frames == frames[:kept]
    assert scan.damaged_at is None
    assert scan.torn_bytes == cut - max([0, *ends[:kept]])


def test_every_cut_of_a_segment_is_a_torn_tail():
    """The same for every byte of one segment."""
    encoded = [encode_frame(frame) for frame in SEGMENT]
    whole = b"".join(encoded)
    for cut in range(len(whole)):
        scan = scan_frames(whole[:cut])
        assert scan.damaged_at is None, cut
        assert scan.frames == SEGMENT[: len(scan.frames)]
        assert sum(map(len, encoded[: len(scan.frames)])) + scan.torn_bytes == cut


def test_every_flipped_bit_is_detected():
    """Any one flipped bit, in the last frame too, is damage, and no frame comes back changed."""
    whole = b"".join(map(encode_frame, SEGMENT))
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        scan = scan_frames(bytes(data))
        assert scan.damaged_at is not None, bit
        assert all(frame in SEGMENT for frame in scan.frames)
        assert len(scan.frames) >= len(SEGMENT) - 2


def test_zeros_at_the_end_are_a_torn_tail():
    """A file that power loss grew without its data is cut, not called damaged."""
    whole = b"".join(map(encode_frame, SEGMENT))
    scan = scan_frames(whole[:-30] + bytes(100))
    assert (scan.frames, scan.damaged_at, scan.torn_bytes > 100) == (SEGMENT[:3], None, True)
