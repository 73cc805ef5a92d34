/* The library disturbs neither children nor signals of its caller, and a child reads the socket. */
#include "client.h"

static volatile sig_atomic_t signals;

static void count(int signal) {
    (void)signal;
    signals++;
}

int main(void) {
    struct sigaction action = {.sa_handler = count};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    pmon_kernel *kernel = new_kernel(1);
    int fd = open_socket(kernel, PMON_SOCK_LISTEN);
    CHECK(wait(NULL) == -1 && errno == ECHILD);
    CHECK(signals == 0);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);

    /* The library's thread takes no signal: the handler runs in this thread, which waits for it. */
    action.sa_handler = count;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(kill(getpid(), SIGUSR1) == 0 && signals == 1);

    pid_t child = fork();
    if (child == 0) {
        struct event event;
        alarm(TIMEOUT);
        _exit(next(fd, 0, &event) == 0 && event.what == 1 && event.pid == 5071 ? 0 : 1);
    }
    CHECK(pmon_kernel_set_next_pid(kernel, 5071) == 0 && pmon_kernel_fork(kernel, 1) == 5071);
    int status;
    while (waitpid(child, &status, 0) == -1)
        CHECK(errno == EINTR);
    CHECK(status == 0);
    pmon_kernel_free(kernel);
}
