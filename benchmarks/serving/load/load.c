/* load: sends prepared requests over many connections and checks every answer.
 *
 * One thread, one epoll, no allocation on the hot path: some 100,000 requests a second on one core, so that the
 * server under test is always the slower side. It knows nothing of models or of request forms: a corpus file
 * holds whole requests (an HTTP/1.1 request, or the HTTP/2 frames of one gRPC call) with the numbers that must
 * come back. Two connections never send the same request at the same time, so an answer that went to
 * the wrong client is counted as wrong.
 *
 * Closed loop: every connection sends again as soon as its answer is in. Open loop (--rate): arrivals follow a
 * seeded Poisson process that the server cannot slow down; latency counts from the moment at which the request
 * was due, also while it waits for a free connection (no coordinated omission).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { JSON_NUMBERS = 0, RAW_FLOATS = 1, GRPC_FLOATS = 2 };
enum { HTTP_CHUNKED = -1, HTTP_BAD = -2 };
#define SECOND 1000000000ULL
#define MAX_WINDOW 0x7fffffffU
#define REQUEST_LIMIT (20 * SECOND)

typedef struct {
    uint8_t *request;
    uint32_t request_len, count;
    float want[64];
} item_t;

typedef struct {
    int fd, busy, blocked, closing;
    uint32_t turn, stream;
    int64_t window;       /* what the peer still lets us send on this HTTP/2 connection */
    uint64_t due;         /* when the request in flight should have been sent */
    item_t *item;
    uint8_t *out, *own;   /* what is being sent; `own` is the buffer of HTTP/2 */
    size_t out_len, out_at, own_cap;
    int armed;            /* EPOLLOUT is asked for */
    uint8_t *in;
    size_t in_len, in_cap;
    uint8_t *message;     /* the DATA of the HTTP/2 stream in flight */
    size_t message_len, message_cap;
} conn_t;

static int port, mode, epoll_fd;
static uint32_t connections = 64, items_count;
static double seconds = 3, rate;
static uint64_t limit;            /* stop after so many requests (0: never) */
static item_t *items;
static char key[64];
static conn_t *conns;
static uint32_t *idle, idle_head, idle_count;
static uint64_t *latencies, latencies_cap, done, started, wrong, failed, reconnects, last_done, late_max;
static char sample[400];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void *grow(void *old, size_t *cap, size_t need) {
    if (need <= *cap) return old;
    while (*cap < need) *cap = *cap ? *cap * 2 : 4096;
    void *new = realloc(old, *cap);
    if (!new) die("memory");
    return new;
}

/* ---- answers ---- */

static int close_enough(double got, float want) { return fabs(got - want) <= 1e-3 * fabs(want) + 1e-6; }

static int right_json(const item_t *item, const char *body, size_t len) {
    const char *end = body + len, *p = memmem(body, len, key, strlen(key));
    if (!p) return 0;
    p += strlen(key);
    for (uint32_t i = 0; i < item->count; i++) {
        while (p < end && strchr(" \t\r\n[],:", *p) && *p) p++;
        char *after;
        if (p >= end || !(isdigit((unsigned char)*p) || *p == '-')) return 0;
        double got = strtod(p, &after);
        if (after == p || !close_enough(got, item->want[i])) return 0;
        p = after;
    }
    while (p < end && isspace((unsigned char)*p)) p++;
    return p < end && (*p == ']' || *p == '}'); /* and not one number more */
}

/* Floats lie at the end of a raw body and somewhere inside a protobuf message: look from the end backwards. */
static int right_floats(const item_t *item, const uint8_t *body, size_t len) {
    size_t size = item->count * sizeof(float);
    if (len < size) return 0;
    for (size_t at = len - size + 1; at-- > 0;) {
        uint32_t i = 0;
        for (; i < item->count; i++) {
            float got;
            memcpy(&got, body + at + i * sizeof(float), sizeof got);
            if (!close_enough(got, item->want[i])) break;
        }
        if (i == item->count) return 1;
        if (mode == RAW_FLOATS) return 0;
    }
    return 0;
}

static void keep_sample(const void *text, size_t len) {
    if (sample[0]) return;
    size_t n = len < sizeof sample - 1 ? len : sizeof sample - 1;
    for (size_t i = 0; i < n; i++) {
        char c = ((const char *)text)[i];
        sample[i] = (c < 32 || c > 126 || c == '"' || c == '\\') ? '.' : c;
    }
}

/* ---- connections ---- */

static void watch(conn_t *c, int op) {
    struct epoll_event e = {.events = EPOLLIN | (c->armed ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, op, c->fd, &e)) die("epoll_ctl");
}

static void put(conn_t *c, const void *bytes, size_t len) {
    if (c->out_at == c->out_len) c->out_at = c->out_len = 0;
    c->own = grow(c->own, &c->own_cap, c->out_len + len);
    c->out = c->own;
    memcpy(c->own + c->out_len, bytes, len);
    c->out_len += len;
}

static void put_frame(conn_t *c, uint8_t type, uint8_t flags, uint32_t stream, const void *bytes, uint32_t len) {
    uint8_t head[9] = {len >> 16, len >> 8, len, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
    put(c, head, 9);
    if (len) put(c, bytes, len);
}

static void open_connection(conn_t *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->in_len = c->message_len = c->out_at = c->out_len = 0;
    c->armed = c->closing = c->blocked = 0;
    watch(c, EPOLL_CTL_ADD);
    if (mode == GRPC_FLOATS) {
        uint8_t window[6] = {0, 4, 0x7f, 0xff, 0xff, 0xff}, more[4] = {0x7f, 0xff, 0, 0};
        c->window = 65535;
        c->stream = 1;
        put(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
        put_frame(c, 4, 0, 0, window, 6);
        put_frame(c, 8, 0, 0, more, 4);
    }
}

static void flush(conn_t *c) {
    while (c->out_at < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN && !c->armed) {
                c->armed = 1;
                watch(c, EPOLL_CTL_MOD);
            }
            return; /* a broken connection is noticed by the read */
        }
        c->out_at += (size_t)n;
    }
    if (c->armed) {
        c->armed = 0;
        watch(c, EPOLL_CTL_MOD);
    }
}

/* The frames of one call, with the stream's number written into them. Waits while the peer's window is full. */
static void put_call(conn_t *c) {
    uint32_t data = 0;
    for (uint8_t *f = c->item->request; f < c->item->request + c->item->request_len;) {
        uint32_t len = (uint32_t)f[0] << 16 | (uint32_t)f[1] << 8 | f[2];
        if (f[3] == 0) data += len;
        f += 9 + len;
    }
    c->blocked = data > c->window;
    if (c->blocked) return;
    c->window -= data;
    for (uint8_t *f = c->item->request; f < c->item->request + c->item->request_len;) {
        uint32_t len = (uint32_t)f[0] << 16 | (uint32_t)f[1] << 8 | f[2];
        put_frame(c, f[3], f[4], c->stream, f + 9, len);
        f += 9 + len;
    }
}

static void begin(conn_t *c, uint64_t due) {
    c->item = &items[((uint32_t)(c - conns) + c->turn++ * connections) % items_count];
    c->due = due;
    c->busy = 1;
    started++;
    if (mode == GRPC_FLOATS) {
        c->message_len = 0;
        put_call(c);
    } else {
        c->out = c->item->request;
        c->out_len = c->item->request_len;
        c->out_at = 0;
    }
    flush(c);
}

static void now_idle(conn_t *c) {
    c->busy = 0;
    idle[(idle_head + idle_count++) % connections] = (uint32_t)(c - conns);
}

static void finish(conn_t *c, int ok) {
    uint64_t t = now_ns();
    if (ok) {
        if (done == latencies_cap) {
            latencies_cap = latencies_cap ? latencies_cap * 2 : 1 << 16;
            latencies = realloc(latencies, latencies_cap * sizeof *latencies);
            if (!latencies) die("memory");
        }
        latencies[done++] = t - c->due;
        last_done = t;
    }
    now_idle(c);
}

static void reopen(conn_t *c) {
    int was_busy = c->busy;
    close(c->fd);
    reconnects++;
    if (was_busy) {
        failed++;
        keep_sample("connection closed with a request in flight", 42);
    }
    open_connection(c);
    if (was_busy) now_idle(c);
}

/* ---- HTTP/1.1 ---- */

static size_t unchunk(uint8_t *body, size_t len, size_t *body_len) {
    size_t at = 0, to = 0;
    for (;;) {
        uint8_t *eol = memmem(body + at, len - at, "\r\n", 2);
        if (!eol) return 0;
        size_t size = strtoul((char *)body + at, NULL, 16), from = (size_t)(eol - body) + 2;
        if (from + size + 2 > len) return 0;
        if (!size) {
            *body_len = to;
            return from + 2;
        }
        memmove(body + to, body + from, size);
        to += size;
        at = from + size + 2;
    }
}

static long body_size(const char *head, size_t len, int *closing) {
    long size = HTTP_BAD;
    const char *end = head + len;
    for (const char *line = head; line && line < end;) {
        if (!strncasecmp(line, "content-length:", 15)) size = atol(line + 15);
        if (!strncasecmp(line, "transfer-encoding: chunked", 26)) size = HTTP_CHUNKED;
        if (!strncasecmp(line, "connection: close", 17)) *closing = 1;
        line = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (line) line += 2;
    }
    return size;
}

static void on_http(conn_t *c) {
    uint8_t *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!end || !c->busy) return;
    size_t head = (size_t)(end - c->in) + 4, body_len = 0, have = c->in_len - head;
    long size = body_size((char *)c->in, head, &c->closing);
    if (size >= 0) {
        if (have < (size_t)size) return;
        body_len = (size_t)size;
    } else if (size == HTTP_CHUNKED) {
        uint8_t *copy = malloc(have + 1); /* unchunking writes: only on a copy, as it may be too early */
        memcpy(copy, end + 4, have);
        copy[have] = 0;
        size_t used = unchunk(copy, have, &body_len);
        if (used) memcpy(end + 4, copy, body_len);
        free(copy);
        if (!used) return;
    }
    int status = c->in_len > 12 ? atoi((char *)c->in + 9) : 0, ok = 0;
    if (status != 200) {
        failed++;
        keep_sample(c->in, c->in_len);
    } else {
        c->in[head + body_len] = 0;
        ok = mode == JSON_NUMBERS ? right_json(c->item, (char *)end + 4, body_len)
                                  : right_floats(c->item, end + 4, body_len);
        if (!ok) {
            wrong++;
            keep_sample(end + 4, body_len);
        }
    }
    c->in_len = 0;
    finish(c, ok);
}

/* ---- HTTP/2, as much of it as a unary gRPC call needs ---- */

static void on_grpc(conn_t *c) {
    size_t at = 0;
    while (c->in_len - at >= 9) {
        uint8_t *f = c->in + at, *data = f + 9, type = f[3], flags = f[4];
        uint32_t len = (uint32_t)f[0] << 16 | (uint32_t)f[1] << 8 | f[2];
        uint32_t stream = ((uint32_t)f[5] << 24 | (uint32_t)f[6] << 16 | (uint32_t)f[7] << 8 | f[8]) & MAX_WINDOW;
        if (c->in_len - at < 9 + len) break;
        at += 9 + len;
        if (type == 4 && !(flags & 1)) put_frame(c, 4, 1, 0, NULL, 0);
        if (type == 6 && !(flags & 1)) put_frame(c, 6, 1, 0, data, len);
        if (type == 7) c->closing = 1;
        if (type == 8 && stream == 0) {
            c->window += (int64_t)data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3];
            if (c->blocked) put_call(c);
        }
        if (!c->busy || stream != c->stream) continue;
        if (type == 0) {
            c->message = grow(c->message, &c->message_cap, c->message_len + len);
            memcpy(c->message + c->message_len, data, len);
            c->message_len += len;
        }
        if (type == 3 || (flags & 1 && type <= 1)) {
            int empty = c->message_len <= 5, ok = !empty && right_floats(c->item, c->message + 5, c->message_len - 5);
            if (empty) failed++;
            else if (!ok) wrong++;
            if (!ok) keep_sample(empty ? data : c->message, empty ? len : c->message_len);
            c->stream += 2;
            finish(c, ok);
        }
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    flush(c);
}

static void on_readable(conn_t *c) {
    for (;;) {
        c->in = grow(c->in, &c->in_cap, c->in_len + 4097);
        size_t room = c->in_cap - c->in_len - 1;
        ssize_t n = recv(c->fd, c->in + c->in_len, room, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) {
            reopen(c);
            return;
        }
        c->in_len += (size_t)n;
        if (mode == GRPC_FLOATS) on_grpc(c);
        else on_http(c);
        if (c->closing && !c->busy) {
            reopen(c);
            return;
        }
        if ((size_t)n < room) return;
    }
}

/* ---- the run ---- */

static void read_corpus(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) die(path);
    uint8_t *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    uint32_t head[3];
    if (p == MAP_FAILED) die(path);
    memcpy(head, p, sizeof head);
    items_count = head[0];
    mode = (int)head[1];
    memcpy(key, p + 12, head[2]);
    p += 12 + head[2];
    items = calloc(items_count, sizeof *items);
    for (uint32_t i = 0; i < items_count; i++) {
        memcpy(&items[i].request_len, p, 4);
        memcpy(&items[i].count, p + 4, 4);
        if (items[i].count > 64) die("at most 64 numbers in an answer");
        memcpy(items[i].want, p + 8, items[i].count * 4);
        items[i].request = p + 8 + items[i].count * 4;
        p = items[i].request + items[i].request_len;
    }
}

static double uniform(void) { /* xorshift64*, the same sequence in every run */
    static uint64_t x = 88172645463325252ULL;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    return (double)((x * 2685821657736338717ULL) >> 11) / 9007199254740992.0;
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_us(double q) {
    if (!done) return 0;
    uint64_t at = (uint64_t)ceil(q * (double)done);
    return (double)latencies[at ? at - 1 : 0] / 1e3;
}

int main(int argc, char **argv) {
    const char *corpus = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--corpus")) corpus = value;
        else if (!strcmp(name, "--connections")) connections = (uint32_t)atoi(value);
        else if (!strcmp(name, "--seconds")) seconds = atof(value);
        else if (!strcmp(name, "--rate")) rate = atof(value);
        else if (!strcmp(name, "--limit")) limit = strtoull(value, NULL, 10);
    }
    if (!corpus || !port || !connections) {
        fprintf(stderr, "usage: load --port N --corpus FILE [--connections N] [--seconds S] [--rate R] [--limit N]\n");
        return 2;
    }
    read_corpus(corpus);
    epoll_fd = epoll_create1(0);
    conns = calloc(connections, sizeof *conns);
    idle = calloc(connections, sizeof *idle);
    for (uint32_t i = 0; i < connections; i++) {
        open_connection(&conns[i]);
        flush(&conns[i]);
        now_idle(&conns[i]);
    }
    uint64_t queue_cap = rate > 0 ? (uint64_t)(rate * seconds * 2) + 1024 : 1, queue_head = 0, queue_tail = 0;
    uint64_t *queue = calloc(queue_cap, sizeof *queue);
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), next_due = start, now;
    struct epoll_event events[256];
    for (;;) {
        now = now_ns();
        int sending = now < end && (!limit || started < limit);
        while (rate > 0 && next_due <= now && next_due < end && queue_tail < queue_cap) {
            if (idle_count && now - next_due > late_max) late_max = now - next_due;
            queue[queue_tail++] = next_due;
            next_due += (uint64_t)(-log(1 - uniform()) / rate * 1e9);
        }
        while (idle_count && (rate > 0 ? queue_head < queue_tail : sending) && (!limit || started < limit)) {
            conn_t *c = &conns[idle[idle_head]];
            idle_head = (idle_head + 1) % connections;
            idle_count--;
            begin(c, rate > 0 ? queue[queue_head++] : now_ns());
        }
        if (!sending && idle_count == connections && queue_head == queue_tail) break;
        if (now > end + REQUEST_LIMIT || failed > 20000) break;
        int wait_ms = 0;
        if (rate > 0 && now < end) { /* sleep until shortly before the next arrival, then look without sleeping */
            int64_t gap = (int64_t)(next_due - now) - 60000;
            struct timespec t = {gap / (int64_t)SECOND, gap % (int64_t)SECOND};
            struct pollfd p = {epoll_fd, POLLIN, 0};
            if (gap > 0) ppoll(&p, 1, &t, NULL);
        } else {
            wait_ms = 100;
        }
        int n = epoll_wait(epoll_fd, events, 256, wait_ms);
        for (int i = 0; i < n; i++) {
            conn_t *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) flush(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
        }
    }
    uint64_t stuck = connections - idle_count, unsent = queue_tail - queue_head;
    failed += stuck + unsent;
    if (stuck + unsent) keep_sample("no answer within the time limit", 31);
    double wall = done ? (double)(last_done - start) / 1e9 : seconds;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                 (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    qsort(latencies, done, sizeof *latencies, by_size);
    printf("{\"right\": %llu, \"wrong\": %llu, \"failed\": %llu, \"reconnects\": %llu, \"seconds\": %.4f, "
           "\"rate\": %.2f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"max_us\": %.1f, \"late_max_us\": %.1f, \"load_cpu\": %.3f, \"sample\": \"%s\"}\n",
           (unsigned long long)done, (unsigned long long)wrong, (unsigned long long)failed,
           (unsigned long long)reconnects, wall, (double)done / wall, quantile_us(.5), quantile_us(.9),
           quantile_us(.99), quantile_us(.999), quantile_us(1), (double)late_max / 1e3, cpu / wall, sample);
    return 0;
}
