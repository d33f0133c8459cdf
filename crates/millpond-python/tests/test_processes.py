"""Real processes that die, are forked, are interrupted; threads and event loops."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import pytest
from conftest import DEADLINE_S, Children, used_buffers, wait_until

import millpond
from millpond import Pond

HOLDER = """
import sys, time, numpy as np, millpond
pond = millpond.Pond.attach(sys.argv[1])
port = pond.input("holder.in")
held = [next(port) for _ in range(5)]
views = [frame.array[1:] for frame in held[:3]]
del held[0]
out = pond.output("holder.out")
loans = [out.loan(1000, "f8") for _ in range(4)]
for loan in loans: loan.array[:] = 1
assert [view.tolist() for view in views] == [[0] * 99, [1] * 99, [2] * 99]
print("ready", flush=True)
time.sleep(600)
"""


def test_a_killed_process_gives_back_every_view_and_loan(pond: Pond, children: Children) -> None:
    pond.connect("source.out", "holder.in")
    pond.connect("source.out", "other.in")
    out, other = pond.output("source.out"), pond.input("other.in")
    holder = children.start(HOLDER, pond.name)
    for i in range(8):
        out.send(np.full(100, i))
    assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
    for i in range(8):
        assert other.receive(timeout=DEADLINE_S).array[0] == i
    # 5 held, 3 queued, 4 on loan.
    assert used_buffers(pond) == 12
    children.kill(holder)
    wait_until(lambda: used_buffers(pond) == 3, "the recovery of what the dead process held")
    # Others go on, and the next holder gets what is queued.
    again = children.start(HOLDER.replace("range(5)", "range(3)").replace("[0] * 99, [1] * 99, [2] * 99", "[5] * 99, [6] * 99, [7] * 99"), pond.name)
    assert again.stdout is not None and again.stdout.readline() == "ready\n"
    out.send(np.full(100, 8))
    assert other.receive(timeout=DEADLINE_S).array[0] == 8
    children.kill(again)
    wait_until(lambda: used_buffers(pond) == 1, "the second recovery")


def test_a_killed_sender_is_told_and_its_successor_goes_on(pond: Pond, children: Children) -> None:
    sender = """
import sys, time, millpond
out = millpond.Pond.attach(sys.argv[1]).output("source.out")
for i in range(10): out.send([i])
print("ready", flush=True)
time.sleep(600)
"""
    pond.connect("source.out", "b.in")
    port = pond.input("b.in")
    child = children.start(sender, pond.name)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    children.kill(child)
    got = []
    with pytest.raises(millpond.SenderDiedError, match="source.out"):
        for frame in port:
            got.append(int(frame.array[0]))
    assert got == list(range(10))
    children.start(sender.replace("time.sleep(600)", ""), pond.name)
    assert [int(frame.array[0]) for frame in port] == list(range(10))


def test_the_end_of_a_program_ends_its_streams_and_leaves(pond: Pond, children: Children) -> None:
    pond.connect("source.out", "b.in")
    port = pond.input("b.in")
    code = """
import sys, millpond
pond = millpond.Pond.attach(sys.argv[1])
out = pond.output("source.out")
keep = [out.loan(5)]
out.send([1])
"""
    child = children.start(code, pond.name)
    assert [frame.array[0] for frame in port] == [1]
    assert child.wait(DEADLINE_S) == 0
    assert dict(millpond.ponds())[pond.name] == [os.getpid()]
    assert child.stderr is not None and child.stderr.read() == ""
    wait_until(lambda: used_buffers(pond) == 0, "the loan that was never sent")


@pytest.mark.parametrize("wait", ["adaptive", "block", "spin"])
def test_ctrl_c_interrupts_every_wait(pond: Pond, children: Children, wait: str) -> None:
    code = """
import sys, millpond
pond = millpond.Pond.attach(sys.argv[1])
port = pond.input("b.in", wait=sys.argv[2])
try:
    print("ready", flush=True)
    for frame in port: pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    pond.connect("source.out", "b.in")
    child = children.start(code, pond.name, wait)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "interrupted\n"
    assert child.wait(DEADLINE_S) == 0
    assert child.stderr is not None and child.stderr.read() == ""


def test_a_forked_child_is_told_so_and_disturbs_nobody(pond: Pond) -> None:
    pond.connect("a.out", "b.in")
    out, port = pond.output("a.out"), pond.input("b.in")
    out.send([1])
    out.send([2])
    frame, loan = port.receive(timeout=DEADLINE_S), out.loan(3)

    def child(answers: Connection) -> None:
        for use in (
            lambda: frame.array,
            lambda: frame.dtype,
            lambda: memoryview(frame),
            lambda: frame.clone(),
            lambda: out.send(frame),
            lambda: out.send(loan),
            lambda: out.send([1]),
            lambda: out.loan(3),
            lambda: port.receive(),
            lambda: next(port),
            lambda: port.try_receive(),
            lambda: pond.input("c.in"),
            lambda: pond.connect("c.out", "d.in"),
        ):
            try:
                use()
                answers.send("nothing was raised")
            except millpond.ForkedError as error:
                answers.send(str(error))
        out.close()
        port.close()
        pond.close()
        # Attaching anew is the way.
        with Pond.attach(pond.name) as own:
            own.connect("child.out", "child.in")
        answers.send("done")

    here, there = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    process.start()
    answers: list[str] = []
    while (not answers or answers[-1] != "done") and here.poll(DEADLINE_S):
        answers.append(here.recv())
    process.join(DEADLINE_S)
    assert process.exitcode == 0
    assert answers == ["this handle belongs to the parent process: a forked child must attach to the pond itself"] * 13 + ["done"]
    # The parent is as it was.
    assert frame.array.tolist() == [1]
    loan.array[:] = 9
    out.send(loan)
    assert [port.receive(timeout=DEADLINE_S).array[0] for _ in range(2)] == [2, 9]
    out.finish()
    assert list(port) == []


def test_arrays_that_were_received_can_be_read_in_a_forked_child(pond: Pond) -> None:
    """They stay mapped there, read-only; what the child lets go of is still the parent's."""
    pond.connect("a.out", "b.in")
    out, port = pond.output("a.out"), pond.input("b.in")
    out.send(np.arange(4))
    out.send(np.arange(4) + 10)
    frames = [port.receive(timeout=DEADLINE_S) for _ in range(2)]
    arrays = [frame.array for frame in frames]

    def child(answers: Connection) -> None:
        answers.send([array.tolist() for array in arrays])
        try:
            arrays[0][:] = 7
        except ValueError as error:
            answers.send(str(error))
        frames.clear()
        arrays.clear()
        answers.send("let go")

    here, there = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == 0
    assert here.recv() == [[0, 1, 2, 3], [10, 11, 12, 13]]
    assert "read-only" in here.recv()
    assert here.recv() == "let go"
    pid = os.fork()
    if pid == 0:
        os._exit(int(arrays[0].sum()) - 6)
    assert os.waitpid(pid, 0)[1] == 0
    assert used_buffers(pond) == 2 and arrays[1].tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("how", ["multiprocessing", "os.fork"])
def test_a_forked_child_has_a_loans_array_to_itself(pond: Pond, how: str) -> None:
    pond.connect("a.out", "b.in")
    out, port = pond.output("a.out"), pond.input("b.in")
    out.send(np.full(3, 5.0))
    frame = port.receive(timeout=DEADLINE_S)
    loan, copied = out.loan(1000, "f8"), out.loan(frame)
    array, with_contents = loan.array, copied.array
    array[:] = 1.0

    def child() -> None:
        assert array.tolist() == [1.0] * 1000 and with_contents.tolist() == [5.0] * 3
        array[:] = 2.0
        with_contents[0] = 6.0
        assert array.sum() == 2000.0 and with_contents.tolist() == [6.0, 5.0, 5.0]
        for use in (lambda: loan.array, lambda: out.send(loan), lambda: out.send(array)):
            with pytest.raises(millpond.ForkedError, match="a forked child must attach to the pond itself"):
                use()
        with pytest.raises(millpond.ForkedError), loan as again:
            again[:] = 3.0
        # What it lets go of is still the parent's, and what it has stays.
        loan.discard()
        assert array.sum() == 2000.0

    if how == "os.fork":
        pid = os.fork()
        if pid == 0:
            try:
                child()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    else:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    assert array.tolist() == [1.0] * 1000 and with_contents.tolist() == [5.0] * 3
    del array, with_contents
    out.send(loan)
    out.send(copied)
    assert [port.receive(timeout=DEADLINE_S).array.sum() for _ in range(2)] == [1000.0, 15.0]


def test_a_forked_child_ends_cleanly_and_nothing_of_the_parents_does(pond: Pond, children: Children) -> None:
    """It inherits threads that are not there: of a run, of the message bus, of a receiver that holds its port's lock."""
    code = """
import os, sys, threading, warnings, millpond, numpy as np
warnings.simplefilter("ignore")  # of later Pythons, that forking a process with threads is risky
pond = millpond.Pond.attach(sys.argv[1])
graph = millpond.Flowgraph(sys.argv[1] + "-graph")
graph.block("zeros", "null-source", items=64)
graph.block("nothing", "null-sink")
graph.connect("zeros -> nothing")
heard = pond.subscribe("news")
waited_for = pond.input("b.in")
event_fd = pond.input("c.in").event_fd()
def wait_for_ever():
    while True:
        try: waited_for.receive()
        except millpond.PortInUseError: continue  # by in_use, which asks whether this has it
        except millpond.ClosedError: return
threading.Thread(target=wait_for_ever, daemon=True).start()
def in_use():
    try: waited_for.try_receive()
    except millpond.PortInUseError: return True
while not in_use(): pass
with graph.start() if sys.argv[2] == "processes" else graph.start_here() as run:
    def taken(): return run.pond.statistics().block("nothing").taken
    while not taken(): pass
    pid = os.fork()
    if pid == 0:
        uses = (
            run.stop, run.wait, heard.receive, waited_for.receive, waited_for.event_fd,
            lambda: pond.subscribe("more"), lambda: pond.publish("news", 1), lambda: pond.call("x", timeout=1), lambda: run.pond.params("zeros"),
        )
        for use in uses:
            try: use()
            except millpond.ForkedError: continue
            sys.exit("nothing was raised")
        heard.close()
        waited_for.close()
        del heard, pond
        sys.exit(0)  # leaves `with`, runs what is registered at exit
    status = os.waitpid(pid, 0)[1]
    before = taken()
    while taken() == before: pass
    pond.publish("news", 7)
    print(status, heard.receive(timeout=60).value, flush=True)
    run.stop()
    print(run.wait(timeout=60).reason, flush=True)
"""
    for how, reason in (("threads", "its blocks ended"), ("processes", "it was asked to end")):
        child = children.start(code, pond.name, how)
        said, errors = child.communicate(timeout=DEADLINE_S)
        assert (said, errors, child.returncode) == (f"0 7\n{reason}\n", "", 0)


def test_ctrl_c_interrupts_a_call(pond: Pond, children: Children) -> None:
    """Of a block that never answers, since it is stopped."""
    asked = """
import sys, time, millpond
graph = millpond.Flowgraph(sys.argv[1])
graph.block("zeros", "null-source")
graph.block("nothing", "null-sink")
graph.connect("zeros -> nothing")
with graph.start() as run:
    while not run.pond.statistics().block("zeros").sent: time.sleep(0.01)
    print(run.pond.statistics().block("zeros").pid, flush=True)
    sys.stdin.readline()
    try:
        print("calling", flush=True)
        run.pond.params("zeros", timeout=600)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    sys.stdin.readline()
"""
    child = children.start(asked, "called")
    assert child.stdout is not None and child.stdin is not None
    pid = int(child.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    try:
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "calling\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
    finally:
        os.kill(pid, signal.SIGCONT)
    _, errors = child.communicate("\n", timeout=DEADLINE_S)
    assert (child.returncode, errors) == (0, "")


def test_waiting_releases_the_gil(pond: Pond) -> None:
    pond.connect("a.out", "b.in", depth=1)
    out, port = pond.output("a.out"), pond.input("b.in")
    got: list[int] = []

    def receive() -> None:
        got.extend(int(frame.array[0]) for frame in port)

    thread = threading.Thread(target=receive)
    thread.start()
    time.sleep(0.05)  # so that it waits; the test holds without it, too
    for i in range(100):
        out.send([i])
    with pytest.raises(millpond.PortInUseError, match="another thread"):
        for _ in range(1000):
            port.try_receive()
            time.sleep(0.001)
    out.close()
    thread.join(DEADLINE_S)
    assert sorted(got) == list(range(100)) or len(got) >= 99


def test_closing_a_port_ends_the_wait_of_another_thread(pond: Pond) -> None:
    port = pond.input("b.in")
    told: list[BaseException] = []

    def receive() -> None:
        try:
            port.receive()
        except millpond.ClosedError as error:
            told.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    time.sleep(0.05)
    port.close()
    thread.join(DEADLINE_S)
    assert len(told) == 1 and "b.in" in str(told[0])


def test_async_iteration_lets_the_loop_run(pond: Pond, children: Children) -> None:
    sender = """
import sys, time, millpond
out = millpond.Pond.attach(sys.argv[1]).output("source.out")
for i in range(50):
    out.send([i])
    time.sleep(0.002)
"""
    pond.connect("source.out", "b.in")
    port = pond.input("b.in")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def main() -> list[int]:
        ticking = asyncio.create_task(tick())
        children.start(sender, pond.name)
        got = [int(frame.array[0]) async for frame in port]
        ticking.cancel()
        return got

    assert asyncio.run(main()) == list(range(50))
    assert ticks > 10


def test_what_rings_while_an_async_iteration_is_busy_costs_no_turns_of_the_loop(pond: Pond, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is told once, not again and again until the iteration goes on."""
    pond.connect("a.out", "b.in")
    out, port = pond.output("a.out"), pond.input("b.in")
    heard = 0

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        add_reader = loop.add_reader

        def add_counted(descriptor: int, callback: Callable[[], None]) -> None:
            def counted() -> None:
                nonlocal heard
                heard += 1
                callback()

            add_reader(descriptor, counted)

        monkeypatch.setattr(loop, "add_reader", add_counted)
        out.send([0])
        async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(aiter(port)) as frames:
            got = [int((await anext(frames)).array[0])]
            for i in range(1, 4):
                out.send([i])
            while not heard:
                await asyncio.sleep(0)
            for _ in range(1000):
                await asyncio.sleep(0)
            # Three were sent; some more for what else may ring.
            assert heard <= 3 + 10
            while len(got) < 4:
                got.append(int((await anext(frames)).array[0]))
        return got

    assert asyncio.run(main()) == [0, 1, 2, 3]


def test_async_iterations_leave_no_descriptor_behind(pond: Pond) -> None:
    pond.connect("a.out", "b.in")
    out, port = pond.output("a.out"), pond.input("b.in")

    async def receive(number: int) -> None:
        out.send([number])
        async with contextlib.aclosing(aiter(port)) as frames:
            assert (await anext(frames)).array[0] == number

    async def main() -> None:
        await receive(0)
        gc.collect()  # what earlier tests have left may go meanwhile
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1, 51):
            await receive(number)
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


@pytest.mark.parametrize("what", ["port", "pond"])
def test_closing_a_port_ends_its_async_iteration(pond: Pond, what: str) -> None:
    port = pond.input("b.in")

    async def iterate() -> None:
        async for _ in port:
            pass

    async def main() -> None:
        iterating = asyncio.create_task(iterate())
        await asyncio.sleep(0)
        assert not iterating.done(), "it waits"
        if what == "port":
            port.close()
        else:
            pond.close()
        with pytest.raises(millpond.ClosedError, match="b.in"):
            await asyncio.wait_for(iterating, DEADLINE_S)

    asyncio.run(main())


def test_a_million_frames_leave_no_memory_behind(pond: Pond, children: Children) -> None:
    """10^6 frames from another process, each looked at through numpy; the resident memory afterwards is what it was before."""
    code = """
import sys, numpy as np, millpond
out = millpond.Pond.attach(sys.argv[1]).output("source.out")
for i in range(1_000_000):
    with out.loan(8, "i8") as array:
        array[:] = i
"""
    pond.connect("source.out", "b.in")
    port = pond.input("b.in")
    children.start(code, pond.name)

    def resident_kib() -> int:
        with open("/proc/self/status") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1])

    count, before = 0, 0
    for frame in port:
        if count == 100_000:
            before = resident_kib()
        assert frame.array[0] == count
        count += 1
    assert count == 1_000_000
    assert resident_kib() - before < 2048
    del frame
    wait_until(lambda: used_buffers(pond) == 0, "the buffers")
