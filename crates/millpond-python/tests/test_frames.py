"""Frames and loans within one process: views, lifetimes, refusals."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import used_buffers

import millpond
from millpond import Input, Output, Pond, Timestamp


@pytest.fixture
def ports(pond: Pond) -> tuple[Output, Input]:
    pond.connect("a.out", "b.in")
    return pond.output("a.out"), pond.input("b.in")


DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 1, 3), (0,), (1, 2, 1, 2, 1, 2)])
def test_dtype_and_shape_are_kept(ports: tuple[Output, Input], dtype: str, shape: tuple[int, ...]) -> None:
    out, port = ports
    sent = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    out.send(sent)
    frame = port.receive(timeout=60)
    assert frame.dtype == frame.array.dtype == np.dtype(dtype)
    assert frame.shape == frame.array.shape == shape
    np.testing.assert_array_equal(frame.array, sent)
    view = np.asarray(frame)
    assert (view.dtype, view.shape) == (np.dtype(dtype), shape)
    assert np.shares_memory(view, frame.array) or view.size == 0


def test_every_way_to_look_shares_the_memory(ports: tuple[Output, Input]) -> None:
    out, port = ports
    out.send(np.arange(6, dtype="f4").reshape(2, 3))
    frame = port.receive(timeout=60)
    array = frame.array
    for view in (np.asarray(frame), np.from_dlpack(frame), np.frombuffer(memoryview(frame), "f4"), np.asarray(memoryview(frame))):
        assert np.shares_memory(view, array)
        assert not view.flags.writeable
    assert frame.__dlpack_device__() == (1, 0)
    copy = np.array(frame, dtype="f8")
    assert copy.flags.writeable and not np.shares_memory(copy, array)
    assert memoryview(frame).shape == (2, 3) and memoryview(frame).format == "f"


def test_a_view_outlives_its_frame_and_holds_the_buffer(pond: Pond, ports: tuple[Output, Input]) -> None:
    out, port = ports
    out.send(np.arange(4))
    frame = port.receive(timeout=60)
    part = frame.array[1:][::2]
    del frame
    gc.collect()
    assert used_buffers(pond) == 1
    # Were the buffer free, one of these would overwrite it.
    for _ in range(3000):
        out.send(np.zeros(4, dtype="i8"))
        port.receive(timeout=60)
    port.close()
    np.testing.assert_array_equal(part, [1, 3])
    assert used_buffers(pond) == 1
    del part
    assert used_buffers(pond) == 0


def test_dlpack_is_read_only_and_holds_the_buffer(pond: Pond, ports: tuple[Output, Input]) -> None:
    out, port = ports
    out.send(np.arange(6, dtype="f4").reshape(2, 3))
    frame = port.receive(timeout=60)
    # A copy is the consumer's own; without one, it must be able to learn that it may not write.
    assert "dltensor_versioned" in repr(frame.__dlpack__(max_version=(1, 0)))
    for version in (None, (0, 8)):
        with pytest.raises(BufferError, match="expected DLPack 1.0 or later .*, found an earlier one. Without a copy jax takes it by"):
            frame.__dlpack__(max_version=version)
        frame.__dlpack__(max_version=version, copy=True)
    copy = np.from_dlpack(frame, copy=True)
    assert copy.flags.writeable and not np.shares_memory(copy, frame.array)
    view = np.from_dlpack(frame)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    capsule = frame.__dlpack__(max_version=(1, 0))
    del frame
    gc.collect()
    assert used_buffers(pond) == 1
    np.testing.assert_array_equal(view, copy)
    del view
    assert used_buffers(pond) == 1, "the capsule that nobody took"
    del capsule
    assert used_buffers(pond) == 0


def test_torch_takes_a_frame_without_a_copy(pond: Pond, ports: tuple[Output, Input]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    out, port = ports
    out.send(np.arange(6, dtype="f4").reshape(2, 3))
    frame = port.receive(timeout=60)
    tensor = torch.from_dlpack(frame)
    assert tensor.data_ptr() == frame.array.ctypes.data and tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
    del frame
    assert used_buffers(pond) == 1 and (tensor + 1).sum().item() == 21
    del tensor
    gc.collect()
    assert used_buffers(pond) == 0


def test_jax_takes_a_frame_without_a_copy(pond: Pond, ports: tuple[Output, Input]) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    out, port = ports
    out.send(np.arange(6, dtype="f4").reshape(2, 3))
    frame = port.receive(timeout=60)
    array = jax.device_put(frame.array, may_alias=True)
    assert array.unsafe_buffer_pointer() == frame.array.ctypes.data and array.tolist() == [[0, 1, 2], [3, 4, 5]]
    del frame
    assert used_buffers(pond) == 1 and float((array + 1).sum()) == 21
    del array
    gc.collect()
    assert used_buffers(pond) == 0


@pytest.mark.parametrize("look", [memoryview, np.asarray, np.from_dlpack, lambda f: np.ndarray(4, "i8", buffer=f)])
def test_views_of_a_frame_survive_its_sending(ports: tuple[Output, Input], look: Callable[[Any], Any]) -> None:
    out, port = ports
    out.send(np.arange(4))
    frame = port.receive(timeout=60)
    view = look(frame)
    out.send(frame)
    onward = port.receive(timeout=60)
    assert np.shares_memory(np.asarray(view), onward.array)
    del onward, frame
    for _ in range(1100):
        out.send(np.zeros(4, dtype="i8"))
        port.receive(timeout=60)
    np.testing.assert_array_equal(np.asarray(view), np.arange(4))


@pytest.mark.parametrize("look", [lambda f: np.frombuffer(f, "i8"), memoryview])
def test_views_of_a_frame_survive_a_sending_that_fails(pond: Pond, look: Callable[[Any], Any]) -> None:
    pond.connect("a.out", "b.in", depth=1)
    out, port = pond.output("a.out"), pond.input("b.in")
    out.send(np.arange(4))
    frame = port.receive(timeout=60)
    view = look(frame)
    out.send(np.zeros(4, dtype="i8"))
    with pytest.raises(TimeoutError):
        out.send(frame, timeout=0)
    assert port.receive(timeout=60).array.tolist() == [0] * 4
    out.send(frame)
    # Whoever gets it may not change what is still seen here.
    changed = out.loan(port.receive(timeout=60))
    changed.array[:] = 7
    changed.discard()
    for _ in range(1100):
        out.send(np.zeros(4, dtype="i8"))
        port.receive(timeout=60)
    np.testing.assert_array_equal(np.asarray(view), np.arange(4))


def test_received_arrays_cannot_be_written_to(ports: tuple[Output, Input]) -> None:
    out, port = ports
    out.send(np.arange(4))
    array = port.receive(timeout=60).array
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.base  # noqa: B018
        array[1:].flags.writeable = True


def test_a_loan_is_published_on_leaving_and_read_only_from_then_on(ports: tuple[Output, Input]) -> None:
    out, port = ports
    with out.loan((2, 2), "f4", stamp=7) as array:
        assert port.try_receive() is None
        array[:] = 3
    frame = port.receive(timeout=60)
    assert frame.array.tolist() == [[3, 3], [3, 3]]
    assert frame.stamp == Timestamp.absolute(7)
    assert array.tolist() == [[3, 3], [3, 3]]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_an_exception_discards_a_loan(pond: Pond, ports: tuple[Output, Input]) -> None:
    out, port = ports
    loan = out.loan(4)
    with pytest.raises(ZeroDivisionError), loan as array:
        array[:] = 1 / 0
    assert port.try_receive() is None
    with pytest.raises(millpond.ClosedError, match="discarded"):
        out.send(loan)
    del array
    assert used_buffers(pond) == 0


def test_a_loan_is_sent_once(ports: tuple[Output, Input]) -> None:
    out, port = ports
    loan = out.loan(4, "i4")
    loan.array[:] = 5
    out.send(loan, stamp=Timestamp.sample(3, 48000))
    with pytest.raises(millpond.AlreadySentError, match="sent already"):
        out.send(loan)
    with pytest.raises(millpond.AlreadySentError):
        loan.discard()
    frame = port.receive(timeout=60)
    assert frame.stamp == Timestamp.sample(3, 48000) and frame.array.tolist() == [5] * 4
    assert port.try_receive() is None


@pytest.mark.parametrize("hold", [lambda a: a[1:], lambda a: a.reshape(2, 2), memoryview, lambda a: a.T[:1].real])
def test_writable_views_refuse_the_sending(pond: Pond, ports: tuple[Output, Input], hold: Callable[[Any], Any]) -> None:
    out, port = ports
    kept: Any = None
    with pytest.raises(millpond.WritableViewError, match="delete|release"), out.loan(4) as array:
        kept = hold(array)
    assert port.try_receive() is None
    kept[:1] = kept[:1]  # the memory is still there
    del kept, array
    assert used_buffers(pond) == 0
    loan = out.loan(4)
    kept = hold(loan.array)
    with pytest.raises(millpond.WritableViewError):
        out.send(loan)
    del kept
    array = loan.array
    with pytest.raises(millpond.WritableViewError, match="1 writable view"):
        out.send(loan)
    del array
    out.send(loan)  # a refusal by itself costs nothing
    assert len(port.receive(timeout=60)) == 4


def test_a_frame_is_sent_once_and_forwarding_copies_nothing(pond: Pond, ports: tuple[Output, Input]) -> None:
    out, port = ports
    pond.connect("c.out", "d.in")
    onward, last = pond.output("c.out"), pond.input("d.in")
    out.send(np.arange(1000), stamp=Timestamp.relative(4))
    frame = port.receive(timeout=60)
    other = frame.clone()
    mean = frame.array.mean()
    onward.send(frame)
    with pytest.raises(millpond.AlreadySentError, match="clone"):
        onward.send(frame)
    with pytest.raises(millpond.AlreadySentError):
        frame.array  # noqa: B018
    forwarded = last.receive(timeout=60)
    assert np.shares_memory(forwarded.array, other.array)
    assert forwarded.array.mean() == mean and forwarded.stamp == Timestamp.relative(4)
    assert used_buffers(pond) == 1


def test_a_forwarded_frame_without_views_leaves_nothing_behind(ports: tuple[Output, Input]) -> None:
    out, port = ports
    out.send(np.arange(10))
    frame = port.receive(timeout=60)
    frame.array.sum()
    out.send(frame)
    assert port.receive(timeout=60).references == 1


def test_sequence_numbers_count_what_a_port_publishes(ports: tuple[Output, Input]) -> None:
    out, port = ports
    for _ in range(3):
        out.send(b"abc")
    assert [port.receive(timeout=60).sequence for _ in range(3)] == [0, 1, 2]
    assert out.next_sequence == 3


def test_now_is_the_moment_of_publishing(ports: tuple[Output, Input]) -> None:
    out, port = ports
    with out.loan(1, stamp="now") as array:
        filled = Timestamp.now()
        array[:] = 1
    stamp = port.receive(timeout=60).stamp
    assert stamp is not None and filled <= stamp <= Timestamp.now()


def test_formats_are_told(pond: Pond) -> None:
    pond.connect("a.out", "b.in")
    port = pond.input("b.in")
    assert port.format is None or port.format.shape == ()
    pond.output("a.out", dtype="f4", shape=(None, 2), rate_hz=(48000, 1), description="x = 1")
    told = port.format
    assert told is not None
    assert told.dtype == np.dtype("f4")
    assert (told.shape, told.rate_hz, told.description) == ((None, 2), (48000, 1), "x = 1")


def test_refusals_say_what_was_expected(pond: Pond, ports: tuple[Output, Input]) -> None:
    out, port = ports
    for dtype in ("U5", "datetime64[ns]", ">f4", "?"):
        with pytest.raises(TypeError, match="dtype: expected one of uint8, int8"):
            out.loan(4, dtype)
    with pytest.raises(TypeError, match="shape: expected an int or a tuple"):
        out.loan((2, -1))
    with pytest.raises(ValueError, match="at most 6 dimensions"):
        out.loan((1,) * 7)
    with pytest.raises(TypeError, match="stamp: expected None, a Timestamp"):
        out.loan(1, stamp=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'bound: expected a Timestamp, an int \(.*\) or "now", found None'):
        out.advance(None)  # type: ignore[arg-type]
    with pytest.raises(millpond.BufferTooLargeError, match="add a pool with larger blocks"):
        out.loan(1 << 30)
    with pytest.raises(ValueError, match="timeout: expected None or seconds"):
        port.receive(timeout=-1)
    with pytest.raises(TimeoutError, match=r"nothing came on `b.in` within 0.01 s"):
        port.receive(timeout=0.01)
    with pytest.raises(millpond.PondNotFoundError, match="millpond ps"):
        Pond.attach("no-such-pond")
    with pytest.raises(millpond.PondExistsError, match="attach to it"):
        Pond.create(pond.name)
    with pytest.raises(millpond.PortInUseError):
        pond.output("a.out")
    with pytest.raises(ValueError, match='policy: expected "block", "drop-newest", "drop-oldest", found "x"'):
        pond.connect("a.out", "c.in", policy="x")  # type: ignore[arg-type]


def test_an_exhausted_pool_says_who_holds_it(pond: Pond) -> None:
    with Pond.create(pond.name + "-small", pools=[(4096, 2)]) as small:
        out = small.output("a.out")
        loans = [out.loan(1), out.loan(1)]
        with pytest.raises(millpond.PoolExhaustedError, match="no free buffer"):
            out.loan(1, timeout=0.05)
        del loans[0]
        out.loan(1, timeout=60).discard()


def test_a_full_queue_times_out_and_the_frame_is_kept(pond: Pond) -> None:
    pond.connect("a.out", "b.in", depth=1)
    out, port = pond.output("a.out"), pond.input("b.in")
    out.send([1, 2])
    frame = port.receive(timeout=60)
    out.send([3])
    with pytest.raises(TimeoutError, match="a.out"):
        out.send(frame, timeout=0.05)
    assert frame.array.tolist() == [1, 2]
    loan = out.loan(1)
    loan.array[:] = 4
    with pytest.raises(TimeoutError, match="a.out"):
        out.send(loan, timeout=0.05)
    for expected, item in (([3], frame), ([1, 2], loan)):
        assert port.receive(timeout=60).array.tolist() == expected
        out.send(item)
    assert port.receive(timeout=60).array.tolist() == [4]


def test_streams_end(pond: Pond, ports: tuple[Output, Input]) -> None:
    out, port = ports
    with out:
        out.send([1])
        out.send([2])
    assert [frame.array[0] for frame in port] == [1, 2]
    with pytest.raises(millpond.EndOfStreamError):
        port.receive()
    with pytest.raises(millpond.ClosedError, match="a.out"):
        out.send([3])


def test_an_exception_breaks_a_stream_off(pond: Pond, ports: tuple[Output, Input]) -> None:
    out, port = ports
    with pytest.raises(KeyError), out:
        out.send([1])
        raise KeyError
    assert next(port).array[0] == 1
    with pytest.raises(millpond.SenderDiedError, match="a.out"):
        next(port)
    with pond.output("a.out") as again:
        again.send([2])
    assert [frame.array[0] for frame in port] == [2]


def test_stopping_a_pond_ends_every_iteration(pond: Pond, ports: tuple[Output, Input]) -> None:
    pond.request_stop()
    assert list(ports[1]) == []
    assert pond.stop_requested


def test_a_pond_is_left_with_its_last_view(pond: Pond) -> None:
    name = pond.name + "-left"
    with Pond.create(name) as other:
        other.connect("a.out", "b.in")
        out, port = other.output("a.out"), other.input("b.in")
        out.send([5])
        view = port.receive(timeout=60).array
    assert view.tolist() == [5]
    assert name in dict(millpond.ponds())
    del view
    assert name not in dict(millpond.ponds())


def test_timestamps() -> None:
    assert Timestamp.absolute(5) == Timestamp.absolute(5) != Timestamp.relative(5)
    assert len({Timestamp.absolute(5), Timestamp.absolute(5), Timestamp.relative(5)}) == 2
    assert Timestamp.sample(1, 3).rate_hz == (3, 1) and Timestamp.now().rate_hz is None
    assert repr(Timestamp.sample(1, 30000, 1001)) == "Timestamp.sample(1, 30000, 1001)"
    with pytest.raises(TypeError, match="cannot order"):
        assert Timestamp.absolute(5) < Timestamp.relative(6)
    with pytest.raises(ValueError, match="positive fraction"):
        Timestamp.sample(1, 0)


def test_a_bound_is_seen_behind_what_was_sent_before(pond: millpond.Pond) -> None:
    pond.connect("a.out", "b.in")
    with pond.output("a.out") as out, pond.input("b.in") as port:
        assert port.bound is None
        out.send(np.arange(3), stamp=5)
        out.advance(9)
        assert port.bound is None
        port.receive()
        assert port.bound == millpond.Timestamp.absolute(9)
        out.advance(millpond.Timestamp.absolute(7))
        assert port.bound == millpond.Timestamp.absolute(9)
