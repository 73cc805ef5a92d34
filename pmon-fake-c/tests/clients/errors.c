/* Each error is reported as a negative errno and a text, and changes neither events nor errno. */
#include "client.h"

static pmon_kernel *kernel;

#define FAILS(call, error, text) \
    do { \
        errno = 4711; \
        CHECK((call) == -(error)); \
        CHECK(errno == 4711); \
        CHECK(strstr(pmon_last_error(), text) != NULL); \
    } while (0)

int main(void) {
    CHECK(pmon_last_error()[0] == 0);
    CHECK(strcmp(pmon_fake_version(), VERSION) == 0);
    CHECK(pmon_kernel_new(0) == NULL && strstr(pmon_last_error(), "1 to 8192") != NULL);
    CHECK(pmon_kernel_new(8193) == NULL);
    pmon_kernel_free(NULL);

    kernel = new_kernel(2);
    int fd = open_socket(kernel, PMON_SOCK_PAIR | PMON_SOCK_LISTEN | PMON_SOCK_NONBLOCK);
    pid_t shell = pmon_kernel_add_process(kernel, "sh"), gone = pmon_kernel_add_process(kernel, "gone");
    const char *argv[] = {"x", NULL}, *bad[] = {"x", "\xff", NULL};
    struct event event;
    CHECK(pmon_kernel_exit(kernel, gone, 0) == 0);
    CHECK(next(fd, 0, &event) == 0);

    /* A process that does not run. */
    char text[64];
    snprintf(text, sizeof text, "no task %d", gone);
    FAILS(pmon_kernel_fork(kernel, gone), ESRCH, text);
    FAILS(pmon_kernel_fork(kernel, 0), ESRCH, "no task 0");
    FAILS(pmon_kernel_fork(kernel, -1), ESRCH, "no task -1");
    FAILS(pmon_kernel_clone_thread(kernel, gone), ESRCH, text);
    FAILS(pmon_kernel_exec(kernel, gone, "/x", argv), ESRCH, text);
    FAILS(pmon_kernel_exit(kernel, gone, 0), ESRCH, text);
    FAILS(pmon_kernel_exit_group(kernel, gone, 0), ESRCH, text);
    FAILS(pmon_kernel_kill(kernel, gone, 9, false), ESRCH, text);
    FAILS(pmon_kernel_rename(kernel, gone, "x"), ESRCH, text);
    FAILS(pmon_kernel_setuid(kernel, gone, 1, 1), ESRCH, text);
    FAILS(pmon_kernel_setgid(kernel, gone, 1, 1), ESRCH, text);
    FAILS(pmon_kernel_setsid(kernel, gone), ESRCH, text);
    FAILS(pmon_kernel_ptrace_attach(kernel, gone, shell), ESRCH, text);
    FAILS(pmon_kernel_ptrace_attach(kernel, shell, gone), ESRCH, text);
    FAILS(pmon_kernel_ptrace_detach(kernel, gone), ESRCH, text);

    /* Values out of range. */
    FAILS(pmon_kernel_kill(kernel, shell, 0, false), EINVAL, "no signal 0");
    FAILS(pmon_kernel_kill(kernel, shell, 65, false), EINVAL, "no signal 65");
    FAILS(pmon_kernel_run_on(kernel, 2), EINVAL, "no CPU 2");
    FAILS(pmon_kernel_overrun(kernel, 2, 1), EINVAL, "no CPU 2");
    FAILS(pmon_kernel_no_memory(kernel, 2, 1), EINVAL, "no CPU 2");
    FAILS(pmon_kernel_set_next_pid(kernel, 0), EINVAL, "not a process id");
    FAILS(pmon_kernel_set_next_pid(kernel, 4194304), EINVAL, "not a process id");
    FAILS(pmon_kernel_socket(kernel, 0x100 | PMON_SOCK_PAIR), EINVAL, "0x100");
    FAILS(pmon_kernel_inject(kernel, "[[fault]]\nat = 1\noverran = 5\n", 0), EINVAL, "overran");
    FAILS(pmon_kernel_inject(kernel, "[[fault]]\nevery = 0\noverrun = 5\n", 0), EINVAL, "line 2");
    FAILS(pmon_kernel_lose_until(kernel, "{ kind = \"frok\" }"), EINVAL, "frok");
    FAILS(pmon_kernel_lose_until(kernel, "{}"), EINVAL, "at least one of");
    FAILS(pmon_kernel_lose_until(kernel, "{ pid = 1 }\nlose = 1"), EINVAL, "lose");

    /* Texts that are not UTF-8. */
    FAILS(pmon_kernel_add_process(kernel, "\xff"), EINVAL, "`comm` is not UTF-8");
    FAILS(pmon_kernel_rename(kernel, shell, "\xff"), EINVAL, "`comm` is not UTF-8");
    FAILS(pmon_kernel_exec(kernel, shell, "\xff", argv), EINVAL, "`path` is not UTF-8");
    FAILS(pmon_kernel_exec(kernel, shell, "/x", bad), EINVAL, "`argv` is not UTF-8");

    /* Null pointers. */
    FAILS(pmon_kernel_add_process(kernel, NULL), EINVAL, "`comm` is a null pointer");
    FAILS(pmon_kernel_rename(kernel, shell, NULL), EINVAL, "`comm` is a null pointer");
    FAILS(pmon_kernel_exec(kernel, shell, NULL, argv), EINVAL, "`path` is a null pointer");
    FAILS(pmon_kernel_exec(kernel, shell, "/x", NULL), EINVAL, "`argv` is a null pointer");
    FAILS(pmon_kernel_inject(kernel, NULL, 0), EINVAL, "`script` is a null pointer");
    FAILS(pmon_kernel_lose_until(kernel, NULL), EINVAL, "`place` is a null pointer");
    FAILS(pmon_kernel_listeners(kernel, NULL), EINVAL, "`count` is a null pointer");
    FAILS(pmon_kernel_events(kernel, NULL), EINVAL, "`count` is a null pointer");
    FAILS(pmon_kernel_fork(NULL, shell), EINVAL, "`kernel` is a null pointer");
    FAILS(pmon_kernel_socket(NULL, 0), EINVAL, "`kernel` is a null pointer");
    FAILS(pmon_kernel_sync(NULL), EINVAL, "`kernel` is a null pointer");

    CHECK(next(fd, 0, &event) == EAGAIN);
    int netlink = pmon_kernel_socket(kernel, 0);
    if (netlink >= 0)
        FAILS(pmon_kernel_end_of_file(kernel), EOPNOTSUPP, "PMON_SOCK_PAIR");

    /* The text is the thread's own: a call that succeeds keeps it. */
    FAILS(pmon_kernel_fork(kernel, -1), ESRCH, "no task -1");
    CHECK(pmon_kernel_fork(kernel, shell) > 0);
    CHECK(strstr(pmon_last_error(), "no task -1") != NULL);
    CHECK(next(fd, 0, &event) == 0);
    pmon_kernel_free(kernel);
}
