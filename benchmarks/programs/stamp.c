/* The program of a watched step: stamp STAMPS OUTPUT INPUT... appends the monotonic time of its first instruction to STAMPS, then
   writes the number of bytes of its inputs to OUTPUT. Without OUTPUT it only stamps. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec now;
    char line[64], buffer[65536];
    long total = 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(line, sizeof line, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    int stamps = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (stamps < 0 || write(stamps, line, length) != length) return 2;
    close(stamps);
    if (argc < 3) return 0;
    for (int at = 3; at < argc; at++) {
        int in = open(argv[at], O_RDONLY);
        ssize_t got;
        if (in < 0) return 3;
        while ((got = read(in, buffer, sizeof buffer)) > 0)
            for (ssize_t i = 0; i < got; i++) total = total * 31 + buffer[i];
        close(in);
    }
    int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    length = snprintf(line, sizeof line, "%ld\n", total);
    return out < 0 || write(out, line, length) != length;
}
