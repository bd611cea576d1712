/* The floor under any runner: stat each file, or spawn each step in order, and nothing else.
   usage: floor check GRAPH | floor run GRAPH JOBS
   GRAPH: one line a step, in order: needs (numbers, comma between, or -), TAB, words of the command with TAB between. The second word
   is the output, the third the step's own source. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;
struct step { char *needs; char **argv; int waiting, users, *user; pid_t pid; };
static struct step *steps;
static int count;

static void load(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) { perror(path); exit(2); }
    char *line = NULL;
    size_t room = 0;
    int space = 0;
    while (getline(&line, &room, file) > 0) {
        if (count == space) steps = realloc(steps, (space = space * 2 + 64) * sizeof *steps);
        struct step *step = &steps[count++];
        memset(step, 0, sizeof *step);
        char *text = strdup(line);
        text[strcspn(text, "\n")] = 0;
        int words = 1;
        for (char *c = text; *c; c++) words += *c == '\t';
        step->argv = calloc(words + 1, sizeof(char *));
        step->needs = strsep(&text, "\t");
        for (int i = 0; text; i++) step->argv[i] = strsep(&text, "\t");
    }
    fclose(file);
}

static int check(void) {
    struct stat seen;
    for (int i = 0; i < count; i++)
        if (stat(steps[i].argv[1], &seen) || stat(steps[i].argv[2], &seen)) { printf("step %d is stale\n", i); return 1; }
    return 0;
}

static int run(int jobs) {
    int *queue = malloc((count + 1) * sizeof *queue), head = 0, tail = 0, running = 0, done = 0;
    for (int i = 0; i < count; i++) {
        if (steps[i].needs[0] != '-') {
            char *rest = strdup(steps[i].needs), *word;
            while ((word = strsep(&rest, ","))) {
                struct step *need = &steps[atoi(word)];
                need->user = realloc(need->user, (need->users + 1) * sizeof(int));
                need->user[need->users++] = i;
                steps[i].waiting++;
            }
        }
        if (!steps[i].waiting) queue[tail++] = i;
    }
    while (done < count) {
        while (running < jobs && head < tail) {
            struct step *step = &steps[queue[head++]];
            if (posix_spawn(&step->pid, step->argv[0], NULL, NULL, step->argv, environ)) { perror(step->argv[0]); return 1; }
            running++;
        }
        int status;
        pid_t pid = wait(&status);
        if (pid < 0 || status) { fprintf(stderr, "a step failed\n"); return 1; }
        running--, done++;
        for (int i = 0; i < head; i++) {
            struct step *step = &steps[queue[head - 1 - i]];
            if (step->pid != pid) continue;
            step->pid = 0;
            for (int k = 0; k < step->users; k++)
                if (!--steps[step->user[k]].waiting) queue[tail++] = step->user[k];
            break;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    load(argv[2]);
    return strcmp(argv[1], "check") == 0 ? check() : run(argc > 3 ? atoi(argv[3]) : 1);
}
