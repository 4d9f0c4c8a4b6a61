// ut_rules.c - rules of cancelling and of ports that need a request in one
// particular state: finished and not collected, refused, or without its port.
// options: port=apc
// options: port=direct

#include "tests/user/ktap.h"

enum { BLOCK = 4096 };

static uint8_t buffer[BLOCK] __attribute__((aligned(4096)));

static void nothing_to_cancel(void)
{
    HANDLE disk = open_disk(0), port = new_port(0);
    HANDLE event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK iosb = { 0 }, result = { 0 };
    void *key, *context;
    rule("CAN-02, CAN-01: no IOSB named, and nothing is pending");
    CHECK_STATUS(NtCancelIoFileEx(disk, NULL, &result), STATUS_NOT_FOUND);
    CHECK_OK(NtCancelIoFile(disk, &result));
    rule("CAN-01: finished, its packet not collected, then collected");
    CHECK_OK(bind(disk, port, (void *)1));
    CHECK_STATUS(NtReadFile(disk, event, NULL, (void *)2, &iosb, buffer, BLOCK,
                            0), STATUS_PENDING);
    CHECK_OK(wait(event));
    CHECK_STATUS(NtCancelIoFileEx(disk, &iosb, &result), STATUS_NOT_FOUND);
    CHECK_STATUS(NtCancelIoFileEx(disk, NULL, &result), STATUS_NOT_FOUND);
    CHECK_OK(NtRemoveIoCompletion(port, &key, &context, &result, LONG));
    CHECK(context == (void *)2 && result.Information == BLOCK);
    CHECK_STATUS(NtCancelIoFileEx(disk, &iosb, &result), STATUS_NOT_FOUND);
    CHECK(iosb.Status == STATUS_SUCCESS && iosb.Information == BLOCK);
    NtClose(event);
    NtClose(port);
    NtClose(disk);
}

static void packets_of_failures(void)
{
    enum { POSTS = 3 };
    static const NTSTATUS statuses[POSTS] = {
        STATUS_UNSUCCESSFUL, STATUS_SUCCESS, STATUS_BUFFER_OVERFLOW
    };
    HANDLE port = new_port(0);
    FILE_IO_COMPLETION_INFORMATION entries[POSTS + 1];
    uint32_t removed = 0;
    rule("IOCP-08, IOCP-06: taking many succeeds, whatever became of them");
    for (uint64_t i = 0; i < POSTS; i++)
        CHECK_OK(NtSetIoCompletion(port, (void *)i, (void *)(i + 10),
                                   statuses[i], i + 20));
    CHECK_OK(NtRemoveIoCompletionEx(port, entries, POSTS + 1, &removed, POLL,
                                    false));
    CHECK_EQ(removed, POSTS);
    for (uint64_t i = 0; i < POSTS; i++) {
        CHECK_EQ(entries[i].KeyContext, i);
        CHECK_EQ(entries[i].ApcContext, i + 10);
        CHECK_STATUS(entries[i].IoStatusBlock.Status, statuses[i]);
        CHECK_EQ(entries[i].IoStatusBlock.Information, i + 20);
    }
    NtClose(port);
}

static void without_its_port(void)
{
    HANDLE disk = open_disk(0), port = new_port(0);
    HANDLE event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK iosb = { 0 };
    rule("IOCP-12: a bound file keeps the port, and stays bound");
    CHECK_OK(bind(disk, port, NULL));
    CHECK_OK(NtClose(port));
    CHECK_STATUS(NtReadFile(disk, event, NULL, (void *)1, &iosb, buffer, BLOCK,
                            0), STATUS_PENDING);
    CHECK_OK(wait(event));
    CHECK(iosb.Status == STATUS_SUCCESS && iosb.Information == BLOCK);
    port = new_port(0);
    CHECK_STATUS(bind(disk, port, NULL), STATUS_INVALID_PARAMETER);
    NtClose(port);
    NtClose(disk);
    NtClose(event);
}

static void same_iosb_again(void)
{
    HANDLE disk = open_disk(0), event = new_event(NotificationEvent, false);
    IO_STATUS_BLOCK iosb = { .Pointer = (void *)0x103, 77 };
    rule("CMP-01: an event that was set does not end the next wait");
    CHECK_OK(NtSetEvent(event, NULL));
    CHECK_STATUS(NtWriteFile(disk, event, NULL, NULL, &iosb, buffer, BLOCK, 0),
                 STATUS_PENDING);
    CHECK_OK(wait(event));
    CHECK(iosb.Status == STATUS_SUCCESS && iosb.Information == BLOCK);
    NtClose(event);
    NtClose(disk);
}

int main(void)
{
    nothing_to_cancel();
    packets_of_failures();
    without_its_port();
    same_iosb_again();
    return ktap_end();
}
