/* Asks for fresh names one after the other, as a resolver does: each from a socket of its own.
 *
 *     asker delay SERVER PORT SUFFIX SERIAL COUNT LOW SPAN TTL
 *     asker connect SERVER PORT SUFFIX SERIAL COUNT LOW SPAN TTL
 *
 * The names are those of answerer.c, with the serials from SERIAL on and one address each, out of
 * SPAN addresses from LOW on. `delay` prints p50, p99 and the greatest delay of an answer in
 * microseconds, and how many did not come. `connect` opens a TCP connection to port 443 of each
 * address as soon as its answer is there; it prints how many were refused, how many opened at a second
 * SYN only, how many were not open after ten seconds, and how many answers did not come.
 */

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 12, WAIT = 2 };

struct connection {
    int socket;
    double begun;
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static const char *suffix;
static unsigned low, span, ttl;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t put_label(uint8_t *at, const char *label, size_t size)
{
    at[0] = size;
    memcpy(at + 1, label, size);
    return size + 1;
}

static size_t question(uint8_t *message, unsigned serial)
{
    char name[256];
    size_t end = HEADER;

    snprintf(name, sizeof name, "%u-%u-1-%u.%s", serial, low + serial % span, ttl, suffix);
    memset(message, 0, HEADER);
    memcpy(message, "\0\0\1\0\0\1", 6);
    message[0] = serial >> 8;
    message[1] = serial;
    for (char *label = name; *label;) {
        size_t size = strcspn(label, ".");

        end += put_label(message + end, label, size);
        label += size + (label[size] == '.');
    }
    memcpy(message + end, "\0\0\1\0\1", 5);
    return end + 5;
}

/* Ask for one name; the seconds that its answer took, or -1. The address is the answer's last. */
static double ask(unsigned serial, struct in_addr *address)
{
    uint8_t message[512];
    size_t size = question(message, serial);
    struct timeval patience = {.tv_sec = WAIT};
    int asking = socket(AF_INET, SOCK_DGRAM, 0);
    double begun, took = -1;
    ssize_t got;

    setsockopt(asking, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(asking, (struct sockaddr *)&server, sizeof server))
        err(1, "connect");
    begun = now();
    if (send(asking, message, size, 0) < 0)
        err(1, "send");
    got = recv(asking, message, sizeof message, 0);
    if (got >= (ssize_t)size) {
        took = now() - begun;
        memcpy(address, message + got - 4, 4);
    }
    close(asking);
    return took;
}

static int ascending(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;

    return (difference > 0) - (difference < 0);
}

static void measure_delay(unsigned first, unsigned count)
{
    double *took = calloc(count, sizeof *took);
    unsigned got = 0;

    for (unsigned n = 0; n < count; n++) {
        struct in_addr address;
        double seconds = ask(first + n, &address);

        if (seconds >= 0)
            took[got++] = seconds * 1e6;
    }
    if (!got)
        errx(1, "no answer came");
    qsort(took, got, sizeof *took, ascending);
    printf("%.2f %.2f %.2f %u\n", took[got / 2], took[got * 99 / 100], took[got - 1], count - got);
}

/* Whether a connection is open (1), refused (-1) or neither yet (0) after at most `wait` ms. */
static int state(int connecting, int wait)
{
    struct pollfd waiting = {.fd = connecting, .events = POLLOUT};
    int error = 0;
    socklen_t length = sizeof error;

    if (poll(&waiting, 1, wait) == 0)
        return 0;
    getsockopt(connecting, SOL_SOCKET, SO_ERROR, &error, &length);
    return error ? -1 : 1;
}

static int tried_again(int connected)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof info;

    getsockopt(connected, IPPROTO_TCP, TCP_INFO, &info, &length);
    return info.tcpi_total_retrans > 0;
}

static void let_go(int connected)
{
    struct linger at_once = {.l_onoff = 1};

    setsockopt(connected, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(connected);
}

static void connect_all(unsigned first, unsigned count)
{
    struct connection *waiting = calloc(count, sizeof *waiting);
    unsigned refused = 0, late = 0, never = 0, unanswered = 0, left = 0;

    for (unsigned n = 0; n < count; n++) {
        struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(443)};
        int connecting, opened;
        double begun;

        if (ask(first + n, &there.sin_addr) < 0) {
            unanswered++;
            continue;
        }
        connecting = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        begun = now();
        if (connect(connecting, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS)
            opened = -1;
        else
            opened = state(connecting, 2);
        if (opened) {
            refused += opened < 0;
            late += opened > 0 && tried_again(connecting);
            let_go(connecting);
        } else {
            waiting[left++] = (struct connection){connecting, begun};
        }
    }
    for (unsigned n = 0; n < left; n++) {
        double still = waiting[n].begun + 10 - now();
        int opened = state(waiting[n].socket, still > 0 ? still * 1000 : 0);

        refused += opened < 0;
        never += opened == 0;
        late += opened > 0 && tried_again(waiting[n].socket);
        let_go(waiting[n].socket);
    }
    printf("%u %u %u %u\n", refused, late, never, unanswered);
}

int main(int argc, char **argv)
{
    struct rlimit files = {1 << 16, 1 << 16};

    if (argc != 10)
        errx(2, "usage: asker delay|connect SERVER PORT SUFFIX SERIAL COUNT LOW SPAN TTL");
    setrlimit(RLIMIT_NOFILE, &files);
    inet_pton(AF_INET, argv[2], &server.sin_addr);
    server.sin_port = htons(atoi(argv[3]));
    suffix = argv[4];
    low = atoi(argv[7]);
    span = atoi(argv[8]);
    ttl = atoi(argv[9]);
    if (!strcmp(argv[1], "delay"))
        measure_delay(atoi(argv[5]), atoi(argv[6]));
    else
        connect_all(atoi(argv[5]), atoi(argv[6]));
    return 0;
}
