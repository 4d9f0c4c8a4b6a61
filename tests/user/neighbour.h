// neighbour.h - another process that works on while something is attacked.
//
// It works until its event is set, and its exit status says how many rounds
// it did, or what went wrong. To start it is part of the check; so is its end.
// After each round it sets another event, if its standard output is one.

#ifndef TINT_TESTS_USER_NEIGHBOUR_H
#define TINT_TESTS_USER_NEIGHBOUR_H

#include "tests/user/ktap.h"

typedef struct neighbour {
    HANDLE process, stop, tick;
} neighbour;

// Runs words with input as its standard input, and does not wait for it.
KTAP_UNUSED static NTSTATUS start_with(int count, char *const *words,
                                       HANDLE input, HANDLE *process)
{
    RTL_USER_PROCESS_PARAMETERS *parameters =
        &NtCurrentPeb()->ProcessParameters;
    HANDLE mine = parameters->StandardInput;
    parameters->StandardInput = input;
    NTSTATUS status = nt_start_program(count, words, 0, process, NULL);
    parameters->StandardInput = mine;
    return status;
}

// what: "all", or "frugal": it makes no threads.
KTAP_UNUSED static neighbour start_neighbour(char *what)
{
    RTL_USER_PROCESS_PARAMETERS *parameters =
        &NtCurrentPeb()->ProcessParameters;
    neighbour n = { .stop = new_event(NotificationEvent, false),
                    .tick = new_event(SynchronizationEvent, false) };
    HANDLE output = parameters->StandardOutput;
    parameters->StandardOutput = n.tick;
    CHECK_OK(start_with(2, (char *[]){ "neighbour", what }, n.stop,
                        &n.process));
    parameters->StandardOutput = output;
    return n;
}

// Sees it work: of the two rounds that end the second has begun since.
KTAP_UNUSED static void watch_neighbour(neighbour n)
{
    NtResetEvent(n.tick, NULL);
    CHECK_OK(wait(n.tick));
    CHECK_OK(wait(n.tick));
}

KTAP_UNUSED static void stop_neighbour(neighbour n)
{
    CHECK_OK(NtSetEvent(n.stop, NULL));
    CHECK_OK(wait(n.process));
    NTSTATUS rounds = process_status(n.process);
    if (!CHECK(rounds > 0))
        CHECK_STATUS(rounds, STATUS_SUCCESS);    // says what it was
    NtClose(n.process);
    NtClose(n.stop);
    NtClose(n.tick);
}

#endif
