"""Runs one program (from standard input) on a loop, and checks the promises of every program.

The received bytes of a stream are the beginning of the written bytes, and all of them if neither
end gave up (see fuzz_ends.py). connection_lost() comes once. No descriptor, source or timer is
left. No exception is reported, raised or printed, except those that the program itself raises.

The exit status is 0, or 1 with the faults on standard error; a hang ends with a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
import threading
import traceback
import warnings

from tests.fuzz import fuzz_program
from tests.fuzz.fuzz_ends import OPENERS, RECEIVING, Watched, new_face, pattern

QUIET_S = 5.0          # within this time all that was written has arrived, and all ends are lost
FORKED_CHILD_S = 10
TRACE = bool(os.environ.get("MIOLOOP_FUZZ_TRACE"))  # print each step that is done, and its object


class FuzzError(Exception):
    """Raised by the program itself."""


class Forked(SystemExit):
    """Leaves the run in a forked child."""


EXPECTED = (RuntimeError, OSError, ValueError, NotImplementedError, OverflowError)


class Garbage:
    """Does a step when it is collected."""

    def __init__(self, machine, number, cyclic):
        self.machine = machine
        self.number = number
        if cyclic:
            self.itself = self

    def __del__(self):
        machine = self.machine
        below = sys._getframe().f_back
        receives = below is not None and below.f_code in RECEIVING
        machine.finalizers += 1
        machine.receiving += receives
        try:
            machine.inside(self.number)
        finally:
            machine.receiving -= receives
            machine.finalizers -= 1


class Machine:
    def __init__(self, program):
        import mioloop

        self.program = program
        if program.trigger == "asyncio":    # to see whether a fault is the machine's own
            self.loop = asyncio.SelectorEventLoop()
            self.loop.stats = dict
            self.by_hand = False            # it cannot have a turn within a turn
            self.expected = (*EXPECTED, AttributeError, TypeError)  # of its ended transports
        else:
            kind = {"trigger": program.trigger, "selector": program.selector}
            self.loop = mioloop.new_event_loop(**kind)
            self.by_hand = True
            self.expected = EXPECTED
        self.loop.set_exception_handler(self.reported)
        self.faults = []
        self.ends = []
        self.steps = iter(program.steps)
        self.over = False           # no step is done any more, in finalizers neither
        self.depth = 0
        self.finalizers = 0         # that run just now
        self.receiving = 0          # the finalizers of them that interrupt a protocol's call
        self.handles = []
        self.tasks = []
        self.threads = []
        self.posted = self.arrived = 0
        self.watched = [Watched() for _ in range(3)]
        self.duplicates = []
        self.servers = []
        self.tls = None
        self.main_pid = os.getpid()

    # -- faults

    def fault(self, text):
        self.faults.append(text)

    def reported(self, loop, context):
        error = context.get("exception")
        if os.getpid() != self.main_pid and "was destroyed" in context["message"]:
            return
        if isinstance(error, FuzzError):
            end = getattr(context.get("protocol"), "end", None)
            if end is not None:
                end.broken = True
            return
        if isinstance(error, (OSError, asyncio.CancelledError)):
            return                  # a pipe's or socket's end, a handshake that was given up
        if isinstance(error, RuntimeError) and "cannot enter context" in str(error):
            return                  # a turn within a callback finds its context taken
        if isinstance(error, RuntimeError) and loop.is_closed():
            return                  # a coroutine that is collected then closes its transport
        if isinstance(error, AssertionError) and "transport creation" in context["message"]:
            return                  # Server._attach(): the server was closed after the accept
        text = "".join(traceback.format_exception(error)) if error else ""
        self.fault(f"reported: {context.get('message')}: {error!r}\n{text}")

    # -- running

    def run(self):
        """Every step, however often something leaves the run."""
        loop = self.loop
        loop.call_soon(self.advance)
        self.going = True
        while self.going:
            self.run_until_it_stops()
        self.over = True
        for thread in self.threads:
            thread.join()
        self.settle(self.is_complete)
        for end in self.ends:
            if not end.is_complete():
                self.fault(
                    f"{end.name}: {end.received} of {end.peer.required} bytes arrived"
                    f" (made {end.made}, lost {end.lost})"
                )
        self.give_up()
        self.settle(self.all_are_lost)
        for end in self.ends:
            if end.lost != end.made and end.transport is not None:
                self.fault(f"{end.name}: made {end.made}, lost {end.lost}")
        if self.posted != self.arrived:
            self.fault(f"{self.arrived} of {self.posted} calls of other threads arrived")

    def run_until_it_stops(self):
        try:
            self.loop.run_forever()
        except Forked:
            raise
        except (KeyboardInterrupt, SystemExit):
            pass
        except FuzzError:
            self.fault("FuzzError left the run:\n" + traceback.format_exc())

    def settle(self, done):
        """Run until *done*, or for so long that it will never be."""
        loop = self.loop
        for end in self.ends:
            end.hooks.clear()
            if end.transport is not None and not end.lost and not end.transport.is_closing():
                if hasattr(end.transport, "resume_reading"):
                    with contextlib.suppress(RuntimeError):
                        end.transport.resume_reading()
        give_up = loop.time() + QUIET_S

        def look():
            if done() or loop.time() > give_up:
                loop.stop()
                finished.append(True)
            else:
                loop.call_later(0.001, look)

        finished = []
        loop.call_soon(look)
        while not finished:
            self.run_until_it_stops()

    def is_complete(self):
        return all(end.is_complete() for end in self.ends) and self.posted == self.arrived

    def give_up(self):
        for task in self.tasks:
            task.cancel()
        for handle in self.handles:
            handle.cancel()
        for server in self.servers:
            server.close()
        for watched in self.watched:
            if watched.socket.fileno() >= 0:
                self.loop.remove_reader(watched.socket)
                self.loop.remove_writer(watched.socket)

    def all_are_lost(self):
        for end in self.ends:       # again: a handshake may just have ended
            if end.transport is not None and not end.lost:
                with contextlib.suppress(*self.expected):
                    getattr(end.transport, "abort", end.transport.close)()
        return all(end.lost >= end.made for end in self.ends)

    def close(self):
        self.loop.run_until_complete(self.all_ended())
        self.loop.set_debug(False)
        self.loop.close()
        for watched in self.watched:
            watched.socket.close()
            watched.far.close()
        for duplicate in self.duplicates:
            duplicate.close()
        self.tls = None
        stats = self.loop.stats()
        left = {name: stats[name] for name in ("ready", "sources", "timers") if stats.get(name)}
        if left:
            self.fault(f"the closed loop still holds {left}")

    async def all_ended(self):
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def advance(self):
        step = next(self.steps, None)
        if step is None:
            self.going = False
            self.loop.stop()
            return
        if sum(step[1:]) % 7:
            self.loop.call_soon(self.advance)
        else:
            self.loop.call_later(0.0002, self.advance)
        self.do(step)

    def inside(self, number):
        if self.depth < 5 and not self.over:
            self.do(fuzz_program.inner_step(number))

    def do(self, step):
        if os.getpid() != self.main_pid:
            print("FAULT a SystemExit did not leave the run", file=sys.stderr)
            os._exit(1)
        if step[0] in self.program.without:
            return
        if TRACE:
            print(">" * (self.depth + 1), step, file=sys.stderr)
        self.depth += 1
        try:
            getattr(self, "step_" + step[0])(*step[1:])
        except self.expected:
            pass
        except (FuzzError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            self.fault(f"{step}:\n{traceback.format_exc()}")
        finally:
            self.depth -= 1

    def chosen(self, number, method="close"):
        """An end that has a transport which has that method."""
        ends = [end for end in self.ends if hasattr(end.transport, method)]
        if not ends:
            raise ValueError("there is no such connection yet")
        end = ends[number % len(ends)]
        if TRACE:
            print("   on", end.name, file=sys.stderr)
        return end

    def start(self, coroutine):
        task = self.loop.create_task(coroutine)
        task.add_done_callback(self.has_ended)
        self.tasks.append(task)
        if len(self.tasks) > 50:
            self.tasks = [task for task in self.tasks if not task.done()]

    def has_ended(self, task):
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, (*EXPECTED, FuzzError)):
            self.fault("".join(traceback.format_exception(error)))

    # -- connections

    def step_open(self, kind):
        self.start(OPENERS[fuzz_program.KINDS[kind]](self))

    def step_many(self, count):
        for _ in range(count):
            self.start(OPENERS["unix"](self))

    # -- transports

    def step_write(self, number, count):
        end = self.chosen(number, "get_write_buffer_size")
        if end.kind == "datagram":
            end.transport.sendto(pattern(count % 1000, count % 1000))
            return
        data = pattern(end.sent, count)
        end.write(lambda transport: transport.write(data), len(data))

    step_write_small = step_write

    def step_writelines(self, number, parts, count):
        end = self.chosen(number, "writelines")
        data = pattern(end.sent, parts * count)
        lines = [data[i * count : (i + 1) * count] for i in range(parts)]
        end.write(lambda transport: transport.writelines(lines), sum(map(len, lines)))

    def step_write_eof(self, number):
        end = self.chosen(number, "can_write_eof")
        if end.transport.can_write_eof():
            end.eof_sent = True
            # eof_received() returns false, and so the peer closes: data sent to it may be lost.
            end.peer and setattr(end.peer, "closed", True)
            end.closed = end.closed or end.kind == "pipe"
            end.transport.write_eof()

    def step_close(self, number):
        end = self.chosen(number)
        end.closed = True
        end.transport.close()

    def step_abort(self, number):
        end = self.chosen(number, "abort")
        end.broken = True
        end.transport.abort()

    def step_pause(self, number):
        self.chosen(number, "pause_reading").transport.pause_reading()

    def step_resume(self, number):
        self.chosen(number, "resume_reading").transport.resume_reading()

    def step_set_protocol(self, number, buffered):
        end = self.chosen(number)
        end.transport.set_protocol(new_face(end, buffered))

    def step_limits(self, number, high):
        self.chosen(number, "set_write_buffer_limits").transport.set_write_buffer_limits(high)

    def step_look(self, number):
        transport = self.chosen(number, "get_write_buffer_size").transport
        repr(transport)
        repr(self.loop)
        transport.is_closing()
        transport.get_write_buffer_size()
        transport.get_extra_info("socket")
        len(self.loop._ready)
        list(self.loop._scheduled)
        self.loop.stats()

    def step_forget(self, number):
        """Drop the reference to a transport, which its loop may keep."""
        end = self.chosen(number)
        end.broken = True
        if end.peer is not None:
            end.peer.broken = True
        end.transport = None

    def step_duplicate(self, number):
        end = self.chosen(number)
        sock = end.transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            self.duplicates.append(socket.socket(fileno=os.dup(sock.fileno())))

    def step_hook(self, number, event, inner):
        self.chosen(number).hooks[fuzz_program.EVENTS[event]] = inner

    # -- turns

    def may_turn(self):
        # no task may run inside of another's step
        return self.by_hand and not self.receiving and not asyncio.current_task(self.loop)

    def step_turn(self, count):
        if not self.may_turn():
            return
        for _ in range(count + 1):
            self.loop._run_once() if self.loop._ready else self.step_select(0)

    def step_select(self, count):
        if not self.may_turn():
            return
        for timeout in (0, 0, 0.001)[: count + 1]:
            self.loop._process_events(self.loop._selector.select(timeout))

    def step_interrupt(self, which):
        raise (KeyboardInterrupt, SystemExit)[which]

    def step_raise(self):
        raise FuzzError("on purpose")

    def step_stop(self):
        self.loop.stop()

    def step_debug(self, on):
        self.loop.slow_callback_duration = 100
        self.loop.set_debug(bool(on))

    # -- memory, processes

    def step_garbage(self, number, inner, cyclic):
        garbage = Garbage(self, inner, cyclic)
        if number % 3 == 0:
            self.loop.call_soon(id, garbage)
        elif number % 3 == 1:
            self.handles.append(self.loop.call_later(0.001, id, garbage))

    def step_collect(self):
        gc.collect()

    def step_threshold(self, often):
        gc.set_threshold(1 if often else 700)

    def step_fork(self, way):
        if threading.active_count() > 1 or self.finalizers:
            return                  # out of a finalizer no exception comes
        over, self.over = self.over, True   # finalizers run in fork() too, in both processes
        pid = os.fork()
        if pid:
            self.over = over
            _, status = os.waitpid(pid, 0)
            if status:
                self.fault(f"a forked child ended with status {status}")
            return
        faulthandler.register(signal.SIGALRM, chain=True)   # its other timer is a thread
        signal.alarm(FORKED_CHILD_S)
        raise Forked(way)

    def in_forked_child(self, way):
        """Nothing here may disturb the parent, wait for it, or crash."""
        if way == 0:
            self.loop.close()
        if way == 1:
            self.ends.clear()
            self.handles.clear()
            self.tasks.clear()
        loop = type(self.loop)()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        gc.collect()

    # -- callbacks

    def step_timer(self, which, inner):
        delays = (0, 0.0001, 0.001, -1, -1e10, float("-inf"), 1e300, float("inf"), 2**80, 1e-12,
                  -(2**80), 9.3e9, 5e-324, 3600)
        method = self.loop.call_at if inner % 3 == 0 else self.loop.call_later
        self.handles.append(method(delays[which], self.inside, inner))

    def step_cancel(self, number):
        if self.handles:
            self.handles.pop(number % len(self.handles)).cancel()

    def step_soon(self, inner):
        self.handles.append(self.loop.call_soon(self.inside, inner))

    def step_chain(self, count):
        handle = None
        for _ in range(count):
            handle = self.loop.call_soon(id, handle)

    def step_thread(self, count):
        self.posted += count

        def post():
            for _ in range(count):
                self.loop.call_soon_threadsafe(self.has_arrived)

        thread = threading.Thread(target=post)
        thread.start()
        self.threads.append(thread)

    def has_arrived(self):
        self.arrived += 1

    # -- watched descriptors

    def sockets(self, number):
        return self.watched[number % len(self.watched)]

    def step_watch(self, number, writing):
        watched = self.sockets(number)
        if writing:
            self.loop.add_writer(watched.socket, self.is_writable, watched)
        else:
            self.loop.add_reader(watched.socket, self.is_readable, watched)

    def is_readable(self, watched):
        with contextlib.suppress(OSError):
            if not watched.socket.recv(1000):
                self.loop.remove_reader(watched.socket)

    def is_writable(self, watched):
        self.loop.remove_writer(watched.socket)

    def step_unwatch(self, number, writing):
        watched = self.sockets(number)
        (self.loop.remove_writer if writing else self.loop.remove_reader)(watched.socket)

    def step_feed(self, number):
        self.sockets(number).far.send(b"x" * 100)

    def step_close_watched(self, number, way):
        watched = self.sockets(number)
        if way == 0:
            watched.far.close()
            return
        self.watched[number % len(self.watched)] = Watched()
        fd = watched.socket.fileno()
        if way == 1:
            self.loop.remove_reader(fd)
            self.loop.remove_writer(fd)
            watched.socket.close()
        else:                       # the wrong order
            watched.socket.close()
            self.loop.remove_reader(fd)
            self.loop.remove_writer(fd)
        watched.far.close()

    def step_sock_recv(self, number):
        self.start(self.loop.sock_recv(self.sockets(number).socket, 1000))

    def step_sock_sendall(self, number, count):
        self.start(self.loop.sock_sendall(self.sockets(number).socket, bytes(count)))

    def step_cancel_task(self, number):
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


def main():
    faulthandler.enable()
    faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True)
    warnings.simplefilter("ignore")
    program = fuzz_program.Program.from_json(sys.stdin.read())
    import mioloop

    mioloop.new_event_loop().close()  # so that the process has its lasting descriptors
    gc.collect()
    before = descriptors()
    machine = Machine(program)

    def unraisable(args):
        if not isinstance(args.exc_value, (FuzzError, KeyboardInterrupt, SystemExit)):
            text = "".join(traceback.format_exception(args.exc_value))
            machine.fault(f"unraisable {args.exc_value!r} in {args.object!r}\n{text}")

    sys.unraisablehook = unraisable
    try:
        machine.run()
    except Forked as forked:
        machine.faults.clear()
        machine.in_forked_child(forked.code)
        for fault in machine.faults:
            print("FAULT in a forked child:", fault, file=sys.stderr, flush=True)
        os._exit(1 if machine.faults else 0)
    except BaseException:
        machine.fault("the machine:\n" + traceback.format_exc())
    else:
        machine.close()
    report(machine, before)


def report(machine, before):
    faults = machine.faults
    machine.__dict__.clear()
    machine.__dict__.update(faults=faults, over=True, finalizers=0, receiving=0, depth=0)
    gc.set_threshold(700)
    gc.collect()
    gc.collect()
    left = {fd: to for fd, to in descriptors().items() if before.get(fd) != to}
    if left:
        faults.append(f"descriptors left open: {left}")
    for fault in faults[:5]:
        print("FAULT", fault, file=sys.stderr)
    sys.stderr.flush()
    os._exit(1 if faults else 0)


if __name__ == "__main__":
    main()
