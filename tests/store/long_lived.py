# Starts processes that change in every way that the kernel reports, and then sleep. Prints the role
# and the id of each one, then "ready", and starts short-lived processes until it is killed.
import ctypes, os, platform, sys, threading, time

EXIT = {"x86_64": 60}.get(platform.machine(), 93)
libc = ctypes.CDLL(None)

def sleep():
    while True:
        time.sleep(1000)

def announce(role):
    sys.stdout.write(f"{role} {os.getpid()}\n")
    sys.stdout.flush()

def start(role, change):
    if os.fork() == 0:
        libc.prctl(1, 9)  # PR_SET_PDEATHSIG: SIGKILL
        change()
        announce(role)
        sleep()

def ids():
    os.setresgid(7, 8, 8)
    os.setresuid(5, 6, 6)
    libc.prctl(1, 9)

def rename():
    with open("/proc/self/comm", "w") as comm:
        comm.write("renamed")

def exec_by_thread():
    announce("exec_by_thread")
    threading.Thread(target=lambda: os.execv("/bin/sleep", ["sleep", "1234"])).start()
    sleep()

def orphan():
    if os.fork() != 0:
        os._exit(0)
    time.sleep(0.2)

def threads():
    for _ in range(3):
        threading.Thread(target=sleep).start()

def leader_ends():
    threading.Thread(target=sleep).start()
    announce("leader_ends")
    libc.syscall(EXIT, 0)

start("plain", lambda: None)
start("session", os.setsid)
if os.geteuid() == 0:
    start("ids", ids)
start("renamed", rename)
start("exec_by_thread", exec_by_thread)
start("orphan", orphan)
start("threads", threads)
start("leader_ends", leader_ends)
time.sleep(1)
print("ready", os.getpid(), flush=True)
while True:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
