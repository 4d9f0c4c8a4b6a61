// sh.c - the shell: runs programs and says how they ended.
//
// Blanks separate words; "..." and '...' group; a backslash is itself, so that
// names need no escapes. `;` separates commands, `&` leaves one running. The
// program in the foreground is the one that Ctrl-C ends.

#include <ntdll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE      1024
#define WORDS_MAXIMUM  128
#define JOBS_MAXIMUM   32
#define NAMES_MAXIMUM  16
#define NOT_FOUND      127

// A program that was left running.
struct job {
    HANDLE process;    // NULL: a free place
    uint64_t id;
    char name[32];
};

static struct job jobs[JOBS_MAXIMUM];
static struct rtl_history history;
static int last_status;
static bool ending;

static const struct {
    const char *name;
    const char *text;
} descriptions[] = {
    { "bench", "what operations cost, for whoever counts" },
    { "cat", "print files, or what is typed" },
    { "crash", "do something that ring 3 must not do" },
    { "echo", "print its arguments" },
    { "false", "fail" },
    { "hexdump", "show a range of a disk or a file" },
    { "nothread", "asynchronous writes, and nobody who waits" },
    { "ps", "show every thread of the system" },
    { "sh", "this shell" },
    { "shutdown", "leave QEMU" },
    { "top", "what the machine does, live" },
    { "true", "succeed" },
};

// ---- Results --------------------------------------------------------------

static void print_status(const char *name, int status)
{
    char text[RTL_STATUS_SIZE];
    if (rtl_status_name(status) && status < 0)
        printf("%s: %s\n", name, rtl_status_text(status, text));
    else if (status < 0)
        printf("%s: status 0x%08X\n", name, (unsigned)status);
    else
        printf("%s: status %d\n", name, status);
}

static int exit_status(HANDLE process)
{
    PROCESS_BASIC_INFORMATION basic = { .ExitStatus = STATUS_UNSUCCESSFUL };
    NtQueryInformationProcess(process, ProcessBasicInformation, &basic,
                              sizeof(basic), NULL);
    return basic.ExitStatus;
}

// Waits for a program in the foreground and closes its handle.
static int await(HANDLE process)
{
    NtWaitForSingleObject(process, false, NULL);
    nt_set_foreground(NULL);
    int status = exit_status(process);
    NtClose(process);
    return status;
}

// ---- Background programs --------------------------------------------------

static void add_job(HANDLE process, const char *name)
{
    PROCESS_BASIC_INFORMATION basic = { 0 };
    for (size_t i = 0; i < JOBS_MAXIMUM; i++) {
        struct job *job = &jobs[i];
        if (job->process)
            continue;
        NtQueryInformationProcess(process, ProcessBasicInformation, &basic,
                                  sizeof(basic), NULL);
        job->process = process;
        job->id = basic.UniqueProcessId;
        snprintf(job->name, sizeof(job->name), "%s", name);
        printf("[%lu] %s\n", job->id, name);
        return;
    }
    printf("%s: runs, but is one too many to be watched\n", name);
    NtClose(process);
}

static void end_job(struct job *job, int status)
{
    printf("[%lu] ", job->id);
    print_status(job->name, status);
    job->process = NULL;
}

static void reap_jobs(void)
{
    int64_t now = 0;
    for (size_t i = 0; i < JOBS_MAXIMUM; i++) {
        struct job *job = &jobs[i];
        if (!job->process || NtWaitForSingleObject(job->process, false, &now) !=
                                 STATUS_WAIT_0)
            continue;
        int status = exit_status(job->process);
        NtClose(job->process);
        end_job(job, status);
    }
}

// ---- Builtins -------------------------------------------------------------

static int run_wait(int count, char **words)
{
    (void)count;
    (void)words;
    for (size_t i = 0; i < JOBS_MAXIMUM; i++) {
        if (!jobs[i].process)
            continue;
        nt_set_foreground(jobs[i].process);
        end_job(&jobs[i], await(jobs[i].process));
    }
    return 0;
}

static int run_exit(int count, char **words)
{
    uint64_t code = (uint32_t)last_status;
    bool minus = count > 1 && *words[1] == '-';
    if (count > 2 || (count == 2 && !rtl_parse_number(words[1] + minus,
                                                      &code)) ||
        code > UINT32_MAX) {
        fprintf(stderr, "usage: exit [STATUS]\n");
        return 2;
    }
    ending = true;
    return minus ? -(int)code : (int)code;
}

static int run_history(int count, char **words)
{
    (void)count;
    (void)words;
    for (int i = 0; i < history.count; i++)
        printf("%4d  %s\n", i + 1, history.lines[i]);
    return 0;
}

// In the shell itself: what a program of its says about success counts as
// failure (see the exit codes in the README).
static int run_shutdown(int count, char **words)
{
    uint64_t code = 0;
    if (count > 2 || (count == 2 && (!rtl_parse_number(words[1], &code) ||
                                     code > UINT32_MAX))) {
        fprintf(stderr, "usage: shutdown [N]     N: 0 for success\n");
        return 2;
    }
    fflush(stdout);
    return nt_shutdown((uint32_t)code);
}

static int run_status(int count, char **words)
{
    (void)count;
    (void)words;
    print_status("last", last_status);
    return last_status;
}

static const char *describe(const char *name)
{
    size_t count = sizeof(descriptions) / sizeof(descriptions[0]);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(descriptions[i].name, name) == 0)
            return descriptions[i].text;
    }
    return "";
}

static void list_programs(void)
{
    static FILE_NAMES_INFORMATION names[NAMES_MAXIMUM];
    IO_STATUS_BLOCK iosb;
    HANDLE folder;
    NTSTATUS status = nt_open_file("B:\\bin", FILE_LIST_DIRECTORY | SYNCHRONIZE,
                                   FILE_OPEN,
                                   FILE_SYNCHRONOUS_IO_NONALERT |
                                       FILE_DIRECTORY_FILE, &folder);
    if (!NT_SUCCESS(status)) {
        print_status("B:\\bin", status);
        return;
    }
    for (bool restart = true;; restart = false) {
        status = NtQueryDirectoryFile(folder, &iosb, names, sizeof(names),
                                      restart);
        if (!NT_SUCCESS(status) || iosb.Information < sizeof(names[0]))
            break;
        for (size_t i = 0; i < iosb.Information / sizeof(names[0]); i++) {
            if (!names[i].Directory)
                printf("  %-12s %s\n", names[i].FileName,
                       describe(names[i].FileName));
        }
    }
    NtClose(folder);
}

static int run_help(int count, char **words);

static const struct builtin {
    const char *name;
    int (*run)(int count, char **words);
    const char *text;
} builtins[] = {
    { "exit", run_exit, "leave the shell: exit [STATUS]" },
    { "help", run_help, "this list" },
    { "shutdown", run_shutdown, "leave QEMU: shutdown [N]" },
    { "history", run_history, "the lines typed so far; also arrow up" },
    { "status", run_status, "how the last program ended" },
    { "wait", run_wait, "wait for the programs started with &" },
};

static int run_help(int count, char **words)
{
    (void)count;
    (void)words;
    printf("Programs (B:\\bin):\n");
    list_programs();
    printf("In the shell itself:\n");
    for (size_t i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++)
        printf("  %-12s %s\n", builtins[i].name, builtins[i].text);
    printf("PROGRAM & runs it beside the shell, which keeps the keyboard;"
           " A; B runs one\nafter the other; Ctrl-C ends the program in the"
           " foreground.\n");
    return 0;
}

// ---- Commands -------------------------------------------------------------

static int run_program(int count, char **words, bool background)
{
    HANDLE process, thread;
    HANDLE *input = &NtCurrentPeb()->ProcessParameters.StandardInput;
    HANDLE keys = *input;
    if (background)    // what is typed is for the prompt
        *input = NULL;
    NTSTATUS status = nt_start_program(count, words,
                                       THREAD_CREATE_FLAGS_CREATE_SUSPENDED,
                                       &process, &thread);
    *input = keys;
    if (status == STATUS_OBJECT_NAME_NOT_FOUND ||
        status == STATUS_OBJECT_NAME_INVALID || !*words[0]) {
        printf("%s: not found\n", words[0]);
        return NOT_FOUND;
    }
    if (!NT_SUCCESS(status)) {
        print_status(words[0], status);
        return status;
    }
    if (!background)    // before it runs, so that Ctrl-C finds it
        nt_set_foreground(process);
    NtResumeThread(thread, NULL);
    NtClose(thread);
    if (background) {
        add_job(process, words[0]);
        return 0;
    }
    int result = await(process);
    if (result != 0)
        print_status(words[0], result);
    return result;
}

static int run_command(int count, char **words, bool background)
{
    for (size_t i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++) {
        if (strcmp(words[0], builtins[i].name) == 0)
            return builtins[i].run(count, words);
    }
    fflush(stdout);
    return run_program(count, words, background);
}

// Takes one command off *line, in place; *end is what ended it: ; & or 0.
static int next_command(char **line, char **words, char *end)
{
    char *in = *line;
    char *out = in;    // never overtakes in
    int count = 0;
    *end = ' ';
    while (*end == ' ') {
        in += strspn(in, " \t");
        char *word = out;
        char quote = 0;
        bool any = false;
        for (; *in && (quote || !strchr(" \t;&", *in)); in++) {
            any = true;
            if (quote ? *in == quote : *in == '"' || *in == '\'')
                quote = quote ? 0 : *in;
            else
                *out++ = *in;
        }
        *end = *in == '\t' ? ' ' : *in;
        if (*in)
            in++;
        *out++ = 0;
        if (any && count++ < WORDS_MAXIMUM)
            words[count - 1] = word;
    }
    *line = in;
    return count;
}

static void run_line(char *line)
{
    char *words[WORDS_MAXIMUM + 1];
    char end;
    do {
        int count = next_command(&line, words, &end);
        if (count > WORDS_MAXIMUM) {
            fprintf(stderr, "sh: a command has at most %d words\n",
                    WORDS_MAXIMUM);
            last_status = 1;
            continue;
        }
        words[count] = NULL;
        if (count > 0)
            last_status = run_command(count, words, end == '&');
    } while (end != 0 && !ending);
}

static void run_prompt(void)
{
    static char line[LINE_SIZE];
    RTL_USER_PROCESS_PARAMETERS *parameters =
        &NtCurrentPeb()->ProcessParameters;
    while (!ending) {
        reap_jobs();
        fflush(stdout);
        int length = rtl_read_line(parameters->StandardInput,
                                   parameters->StandardOutput, "tint> ", line,
                                   sizeof(line), &history);
        if (length == RTL_LINE_END)
            return;
        if (length == RTL_LINE_CANCELLED)
            continue;
        rtl_history_add(&history, line);
        run_line(line);
    }
}

int main(int argc, char **argv)
{
    const PEB *peb = NtCurrentPeb();
    if (argc != 1 && !(argc == 3 && strcmp(argv[1], "-c") == 0)) {
        fprintf(stderr, "usage: sh [-c COMMAND]\n");
        return 2;
    }
    nt_set_foreground(NULL);    // a shell gets Ctrl-C as a byte
    if (argc == 3)
        run_line(argv[2]);
    if (argc == 1 || (peb->FirstProgram && peb->Restarts && !ending))
        run_prompt();
    return last_status;
}
