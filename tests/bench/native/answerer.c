/* A DNS server that knows all names, and a TCP server at all addresses.
 *
 *     answerer ADDRESS PORT
 *
 * A question for the A records of SERIAL-FIRST-COUNT-TTL.anything is answered with COUNT addresses
 * from 198.18.0.0 + FIRST on (198.18.0.0/15 is for benchmarks, RFC 2544), all other questions with
 * no record. Whoever connects to TCP port 443 is accepted and let go.
 */

#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 12, RECORD = 16, MOST = 64, FIRST_ADDRESS = 0xC6120000, ADDRESSES = 131072 };

static void accept_all(void)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(443)};

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 4096))
        err(1, "TCP port 443");
    if (fork())
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        close(accept(listener, NULL, NULL));
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = value >> 8;
    at[1] = value;
}

/* The question's end, or 0 where there is none. */
static size_t after_question(const uint8_t *message, size_t size)
{
    size_t at = HEADER;

    while (at < size && message[at])
        at += message[at] + 1;
    return at + 5 <= size ? at + 5 : 0;
}

static size_t answer(uint8_t *message, size_t size)
{
    size_t end = after_question(message, size);
    unsigned first = 0, count = 0, ttl = 0;
    char label[64] = "";

    if (!end)
        return 0;
    memcpy(label, message + HEADER + 1, message[HEADER] & 63);
    if (message[end - 3] != 1 ||
        sscanf(label, "%*[0-9]-%u-%u-%u", &first, &count, &ttl) != 3 || count > MOST)
        count = 0;
    put16(message + 2, 0x8580); /* a response, with authority, without an error */
    put16(message + 6, count);
    memset(message + 8, 0, 4);
    for (unsigned n = 0; n < count; n++, end += RECORD) {
        uint32_t address = htonl(FIRST_ADDRESS + (first + n) % ADDRESSES);
        uint32_t seconds = htonl(ttl);

        memcpy(message + end, "\xc0\x0c\0\1\0\1", 6);
        memcpy(message + end + 6, &seconds, 4);
        put16(message + end + 10, 4);
        memcpy(message + end + 12, &address, 4);
    }
    return end;
}

int main(int argc, char **argv)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    int room = 4 << 20, answering = socket(AF_INET, SOCK_DGRAM, 0);

    if (argc != 3)
        errx(2, "usage: answerer ADDRESS PORT");
    inet_pton(AF_INET, argv[1], &here.sin_addr);
    here.sin_port = htons(atoi(argv[2]));
    setsockopt(answering, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (bind(answering, (struct sockaddr *)&here, sizeof here))
        err(1, "UDP port %s", argv[2]);
    accept_all();
    puts("listening");
    fflush(stdout);
    for (;;) {
        uint8_t message[4096];
        struct sockaddr_in asker;
        socklen_t length = sizeof asker;
        ssize_t size = recvfrom(answering, message, 512, 0, (struct sockaddr *)&asker, &length);
        size_t answered = size < HEADER ? 0 : answer(message, size);

        if (answered)
            sendto(answering, message, answered, 0, (struct sockaddr *)&asker, length);
    }
}
