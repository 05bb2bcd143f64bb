"""What the benchmark stands on: programs that end with it, the cores they run on, and what the kernel says of them."""
import os, pathlib, re, resource, shutil, signal, socket, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATH = os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin"
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORES, LOAD_CORES = CORES[:1], CORES[1:3] or CORES[:1]


def give_up(text):
    sys.exit(f"benches/proxy/run: {text}")


def say(text):
    print(text, file=sys.stderr, flush=True)


def program(name):
    """Where a program is, or None."""
    return shutil.which(name, path=PATH)


def need(*names):
    missing = [name for name in names if not program(name)]
    if missing:
        give_up(f"{', '.join(missing)} is missing; on Debian: apt install nginx-light wrk nghttp2-client util-linux nodejs openssl gcc")


def raise_descriptors():
    """As many open files as may be; everything started later may have them, too."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program on certain cores that dies with this one; what it said is kept in a file."""

    def __init__(self, command, cores, log):
        pinned = ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", ",".join(map(str, cores))]
        self.log = pathlib.Path(log)
        with open(log, "w") as said:
            self.process = subprocess.Popen([*pinned, *map(str, command)], stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/")
        self.pid = self.process.pid

    def wait_for(self, port, seconds=120):
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return self
            except OSError:
                time.sleep(0.005)
        self.end()
        give_up(f"nothing listens on port {port}:\n{self.log.read_text()[-2000:]}")

    def end(self, kind=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(kind)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def family(self):
        """Its own number and those of its children, such as nginx's workers."""
        return [self.pid, *children(self.pid)]

    def cpu_seconds(self):
        """User and system time, to the nanosecond, of threads that have ended, too."""
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.family())

    def memory(self, field="VmRSS"):
        """Bytes: VmRSS now, VmHWM at the most since `forget_peak`."""
        total = 0
        for pid in self.family():
            found = re.search(rf"{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
            total += int(found[1]) * 1024 if found else 0
        return total

    def forget_peak(self):
        for pid in self.family():
            pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def children(pid):
    found = []
    for tasks in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found += [child, *children(child)]
    return found


class Started:
    """Everything that was started, to be ended in the reverse order."""

    def __init__(self):
        self.all = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.all):
            process.end()

    def add(self, process):
        self.all.append(process)
        return process


class Neighbours:
    """What share of the machine others had meanwhile, that is, neither this script nor what it started and has ended."""

    def __init__(self):
        self.before = self.look()

    @staticmethod
    def look():
        user, nice, system, idle, wait, irq, soft = map(int, pathlib.Path("/proc/stat").read_text().split()[1:8])
        own = sum(getattr(resource.getrusage(who), what) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
                  for what in ("ru_utime", "ru_stime"))
        ticks = os.sysconf("SC_CLK_TCK")
        return (user + nice + system + irq + soft) / ticks, own, time.monotonic()

    def share(self):
        (busy, own, then), (busy_now, own_now, now) = self.before, self.look()
        return max(0.0, busy_now - busy - (own_now - own)) / ((now - then) * os.cpu_count())


def describe():
    """The machine, in a line."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", info)
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 1024 / 1024
    return f"{len(CORES)} cores ({model[1].strip() if model else os.uname().machine}), {memory:.0f} GiB, Linux {os.uname().release}"
