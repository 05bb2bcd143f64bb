/* An open-loop load: requests fall due at a constant rate whether or not earlier ones were answered, and a latency runs from the
 * time a request was due, so a proxy that stalls cannot make the load wait for it ("coordinated omission").
 *
 *     open_loop PORT CONNECTIONS RATE SECONDS ANSWER_BYTES [TOKENS_FILE]
 *
 * Prints percentiles in microseconds as JSON. Ends with 1 when an answer is not "HTTP/1.1 200" or not ANSWER_BYTES long.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define GIVE_UP(...) do { fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); exit(1); } while (0)
#define WARM_UP_NANOS 1000000000ull

struct connection { int socket; int busy; size_t received; uint64_t due; char head[13]; };

static struct connection *connections;
static int *idle, idle_count, poll_handle;
static char **requests;
static size_t *lengths, request_count, answer_bytes;
static uint32_t *latencies;
static uint64_t measured, began;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void add_request(const char *token) {
    char text[16384];
    const char *words = *token ? "Authorization: Bearer " : "", *end = *token ? "\r\n" : "";
    int length = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: bench\r\n%s%s%s\r\n", words, token, end);
    if (length < 0 || (size_t)length >= sizeof text) GIVE_UP("a token is too long");
    requests = realloc(requests, (request_count + 1) * sizeof *requests);
    lengths = realloc(lengths, (request_count + 1) * sizeof *lengths);
    requests[request_count] = strdup(text);
    lengths[request_count++] = (size_t)length;
}

static void read_tokens(const char *file) {
    char line[8192];
    FILE *tokens = fopen(file, "r");
    if (!tokens) GIVE_UP("%s: %s", file, strerror(errno));
    while (fgets(line, sizeof line, tokens)) {
        line[strcspn(line, "\n")] = 0;
        add_request(line);
    }
    fclose(tokens);
}

static void open_connection(int number, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)number};
    int on = 1, made = socket(AF_INET, SOCK_STREAM, 0);
    if (made < 0 || connect(made, (struct sockaddr *)&to, sizeof to)) GIVE_UP("connect: %s", strerror(errno));
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(poll_handle, EPOLL_CTL_ADD, made, &event)) GIVE_UP("epoll_ctl: %s", strerror(errno));
    connections[number].socket = made;
    idle[idle_count++] = number;
}

static void ask(uint64_t due) {
    static size_t next;
    struct connection *one = &connections[idle[--idle_count]];
    one->busy = 1, one->received = 0, one->due = due;
    if (write(one->socket, requests[next], lengths[next]) != (ssize_t)lengths[next]) GIVE_UP("a request was not taken whole");
    next = (next + 1) % request_count;
}

static int ready_to_read(int number) {
    char text[65536];
    struct connection *one = &connections[number];
    ssize_t got = recv(one->socket, text, sizeof text, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) GIVE_UP("a connection ended");
    if (!one->busy) GIVE_UP("bytes came that nobody had asked for");
    for (ssize_t at = 0; at < got && one->received + (size_t)at < 12; at++) one->head[one->received + (size_t)at] = text[at];
    one->received += (size_t)got;
    if (one->received < answer_bytes) return 0;
    if (one->received > answer_bytes || strncmp(one->head, "HTTP/1.1 200", 12)) GIVE_UP("answered %.12s, %zu bytes", one->head, one->received);
    uint64_t end = now();
    if (one->due >= began + WARM_UP_NANOS) latencies[measured++] = (uint32_t)((end - one->due) / 1000);
    one->busy = 0;
    idle[idle_count++] = number;
    return 1;
}

static int by_size(const void *a, const void *b) {
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    return (one > other) - (one < other);
}

static double percentile(double share) {
    uint64_t at = (uint64_t)((double)measured * share);
    return (double)latencies[at < measured ? at : measured - 1];
}

int main(int count, char **words) {
    if (count < 6) GIVE_UP("open_loop PORT CONNECTIONS RATE SECONDS ANSWER_BYTES [TOKENS_FILE]");
    int port = atoi(words[1]), width = atoi(words[2]);
    double rate = atof(words[3]), seconds = atof(words[4]) + (double)WARM_UP_NANOS / 1e9;
    uint64_t total = (uint64_t)(rate * seconds), asked = 0, answered = 0;
    answer_bytes = (size_t)atol(words[5]);
    if (count > 6) read_tokens(words[6]); else add_request("");
    connections = calloc((size_t)width, sizeof *connections);
    idle = calloc((size_t)width, sizeof *idle);
    latencies = calloc(total + 1, sizeof *latencies);
    poll_handle = epoll_create1(0);
    for (int number = 0; number < width; number++) open_connection(number, port);
    began = now();
    uint64_t late = began + (uint64_t)(seconds * 1e9) + 10000000000ull;
    struct epoll_event events[256];
    while (answered < total) {
        uint64_t time = now(), due;
        while (asked < total && idle_count && (due = began + (uint64_t)((double)asked / rate * 1e9)) <= time) ask(due), asked++;
        if (time > late) GIVE_UP("%llu of %llu requests were not answered", (unsigned long long)(total - answered), (unsigned long long)total);
        /* Sleeps until the next request is due, or looks at once when one is; waits for answers when all connections are busy. */
        uint64_t next = began + (uint64_t)((double)asked / rate * 1e9);
        struct timespec pause = {.tv_nsec = 1000000};
        if (asked < total && idle_count) pause.tv_nsec = next > time ? (long)(next - time < 1000000 ? next - time : 1000000) : 0;
        int found = epoll_pwait2(poll_handle, events, 256, &pause, NULL);
        for (int at = 0; at < found; at++) answered += (uint64_t)ready_to_read((int)events[at].data.u32);
    }
    double passed = (double)(now() - began) / 1e9;
    qsort(latencies, measured, sizeof *latencies, by_size);
    printf("{\"requests\": %llu, \"measured\": %llu, \"seconds\": %.3f, \"p50\": %.0f, \"p90\": %.0f, \"p99\": %.0f, \"p999\": %.0f, \"max\": %.0f}\n",
           (unsigned long long)total, (unsigned long long)measured, passed, percentile(0.5), percentile(0.9), percentile(0.99),
           percentile(0.999), percentile(1.0));
    return 0;
}
