// ntabi.h - all that ring 3 shares with the kernel.
//
// The services and their numbers, the status codes, and every structure that
// crosses the border. user/include/ntdll.h includes it, so a program and the
// kernel can never disagree. Values are Windows' own wherever Windows has one.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int32_t NTSTATUS;
typedef void *HANDLE;
typedef uint32_t ACCESS_MASK;

#define NT_SUCCESS(status) ((NTSTATUS)(status) >= 0)
#define NT_ERROR(status)   ((uint32_t)(status) >= 3u << 30)

// ---- Status codes ---------------------------------------------------------

// X(name without STATUS_, code)
#define NT_STATUS_CODES(X)                                                   \
    X(SUCCESS, 0x00000000) X(ABANDONED_WAIT_0, 0x00000080)                   \
    X(USER_APC, 0x000000C0) X(KERNEL_APC, 0x00000100) X(ALERTED, 0x00000101) \
    X(TIMEOUT, 0x00000102) X(PENDING, 0x00000103)                            \
    X(DATATYPE_MISALIGNMENT, 0x80000002) X(BREAKPOINT, 0x80000003)           \
    X(SINGLE_STEP, 0x80000004) X(BUFFER_OVERFLOW, 0x80000005)                \
    X(NO_MORE_FILES, 0x80000006) X(UNSUCCESSFUL, 0xC0000001)                 \
    X(NOT_IMPLEMENTED, 0xC0000002) X(INVALID_INFO_CLASS, 0xC0000003)         \
    X(INFO_LENGTH_MISMATCH, 0xC0000004) X(ACCESS_VIOLATION, 0xC0000005)      \
    X(INVALID_HANDLE, 0xC0000008) X(INVALID_CID, 0xC000000B)                 \
    X(INVALID_PARAMETER, 0xC000000D) X(NO_SUCH_DEVICE, 0xC000000E)           \
    X(INVALID_DEVICE_REQUEST, 0xC0000010) X(END_OF_FILE, 0xC0000011)         \
    X(NO_MEDIA_IN_DEVICE, 0xC0000013) X(NONEXISTENT_SECTOR, 0xC0000015)      \
    X(MORE_PROCESSING_REQUIRED, 0xC0000016) X(NO_MEMORY, 0xC0000017)         \
    X(CONFLICTING_ADDRESSES, 0xC0000018)                                     \
    X(INVALID_SYSTEM_SERVICE, 0xC000001C) X(ILLEGAL_INSTRUCTION, 0xC000001D) \
    X(ACCESS_DENIED, 0xC0000022) X(BUFFER_TOO_SMALL, 0xC0000023)             \
    X(OBJECT_TYPE_MISMATCH, 0xC0000024) X(OBJECT_NAME_INVALID, 0xC0000033)   \
    X(OBJECT_NAME_NOT_FOUND, 0xC0000034) X(OBJECT_NAME_COLLISION, 0xC0000035)\
    X(DATA_ERROR, 0xC000003E) X(CRC_ERROR, 0xC000003F)                       \
    X(INVALID_PAGE_PROTECTION, 0xC0000045) X(MUTANT_NOT_OWNED, 0xC0000046)   \
    X(SEMAPHORE_LIMIT_EXCEEDED, 0xC0000047)                                  \
    X(SUSPEND_COUNT_EXCEEDED, 0xC000004A)                                    \
    X(THREAD_IS_TERMINATING, 0xC000004B) X(INVALID_IMAGE_FORMAT, 0xC000007B) \
    X(DISK_FULL, 0xC000007F) X(FLOAT_DENORMAL_OPERAND, 0xC000008D)           \
    X(FLOAT_DIVIDE_BY_ZERO, 0xC000008E) X(FLOAT_INEXACT_RESULT, 0xC000008F)  \
    X(FLOAT_INVALID_OPERATION, 0xC0000090) X(FLOAT_OVERFLOW, 0xC0000091)     \
    X(FLOAT_UNDERFLOW, 0xC0000093)                                           \
    X(INTEGER_DIVIDE_BY_ZERO, 0xC0000094) X(INTEGER_OVERFLOW, 0xC0000095)    \
    X(PRIVILEGED_INSTRUCTION, 0xC0000096)                                    \
    X(INSUFFICIENT_RESOURCES, 0xC000009A) X(DEVICE_DATA_ERROR, 0xC000009C)   \
    X(MEDIA_WRITE_PROTECTED, 0xC00000A2) X(DEVICE_NOT_READY, 0xC00000A3)     \
    X(IO_TIMEOUT, 0xC00000B5) X(FILE_IS_A_DIRECTORY, 0xC00000BA)             \
    X(NOT_SUPPORTED, 0xC00000BB) X(INTERNAL_ERROR, 0xC00000E5)               \
    X(STACK_OVERFLOW, 0xC00000FD) X(NOT_A_DIRECTORY, 0xC0000103)             \
    X(PROCESS_IS_TERMINATING, 0xC000010A) X(CANCELLED, 0xC0000120)           \
    X(CONTROL_C_EXIT, 0xC000013A) X(IO_DEVICE_ERROR, 0xC0000185)             \
    X(NOT_FOUND, 0xC0000225) X(ASSERTION_FAILURE, 0xC0000420)

#define NT_STATUS_CODE(name, code) STATUS_##name = (NTSTATUS)(code),
enum { NT_STATUS_CODES(NT_STATUS_CODE) STATUS_WAIT_0 = STATUS_SUCCESS };

// ---- Handles and access ---------------------------------------------------

#define NtCurrentProcess() ((HANDLE)(intptr_t)-1)
#define NtCurrentThread()  ((HANDLE)(intptr_t)-2)

// What a handle may be good for, by the type of the object.
enum {
    FILE_READ_DATA = 1, FILE_LIST_DIRECTORY = 1, FILE_WRITE_DATA = 2,
    FILE_APPEND_DATA = 4, FILE_READ_ATTRIBUTES = 0x80,

    EVENT_QUERY_STATE = 1, EVENT_MODIFY_STATE = 2,
    SEMAPHORE_MODIFY_STATE = 2,
    MUTANT_QUERY_STATE = 1,
    TIMER_QUERY_STATE = 1, TIMER_MODIFY_STATE = 2,
    IO_COMPLETION_QUERY_STATE = 1, IO_COMPLETION_MODIFY_STATE = 2,

    PROCESS_TERMINATE = 1, PROCESS_CREATE_THREAD = 2, PROCESS_VM_OPERATION = 8,
    PROCESS_DUP_HANDLE = 0x40, PROCESS_QUERY_INFORMATION = 0x400,

    THREAD_TERMINATE = 1, THREAD_SUSPEND_RESUME = 2, THREAD_ALERT = 4,
    THREAD_SET_CONTEXT = 0x10, THREAD_SET_INFORMATION = 0x20,
    THREAD_QUERY_INFORMATION = 0x40,

    SYNCHRONIZE = 0x100000,    // and the rights of every type
    STANDARD_RIGHTS_ALL = 0x1F0000, SPECIFIC_RIGHTS_ALL = 0xFFFF,
    ALL_ACCESS = STANDARD_RIGHTS_ALL | SPECIFIC_RIGHTS_ALL,
};

#define MAXIMUM_ALLOWED 0x02000000u
#define GENERIC_ALL     0x10000000u
#define GENERIC_WRITE   0x40000000u
#define GENERIC_READ    0x80000000u

// Options of NtDuplicateObject.
enum { DUPLICATE_CLOSE_SOURCE = 1, DUPLICATE_SAME_ACCESS = 2 };

// A counted string; names in TINT are 8-bit.
typedef struct STRING {
    uint16_t Length, MaximumLength;
    const char *Buffer;
} STRING;

typedef struct OBJECT_ATTRIBUTES {
    uint32_t Length;        // sizeof(OBJECT_ATTRIBUTES)
    uint32_t Attributes;    // OBJ_...
    STRING ObjectName;      // by value: no pointer to chase
} OBJECT_ATTRIBUTES;

typedef struct CLIENT_ID {
    uint64_t UniqueProcess, UniqueThread;
} CLIENT_ID;

// ---- Files ----------------------------------------------------------------

typedef struct IO_STATUS_BLOCK {
    union {
        NTSTATUS Status;
        void *Pointer;
    };
    uintptr_t Information;
} IO_STATUS_BLOCK;

typedef void IO_APC_ROUTINE(void *apc_context, IO_STATUS_BLOCK *iosb,
                            uint32_t reserved);
typedef void PS_APC_ROUTINE(void *argument1, void *argument2, void *argument3);
typedef void TIMER_APC_ROUTINE(void *context, uint32_t low, int32_t high);

enum { FILE_SHARE_READ = 1, FILE_SHARE_WRITE = 2, FILE_SHARE_DELETE = 4 };

enum {
    // create disposition
    FILE_SUPERSEDE, FILE_OPEN, FILE_CREATE, FILE_OPEN_IF, FILE_OVERWRITE,
    FILE_OVERWRITE_IF,
    // create options
    FILE_DIRECTORY_FILE = 0x01, FILE_SYNCHRONOUS_IO_ALERT = 0x10,
    FILE_SYNCHRONOUS_IO_NONALERT = 0x20, FILE_NON_DIRECTORY_FILE = 0x40,
    // Information of a create
    FILE_SUPERSEDED = 0, FILE_OPENED, FILE_CREATED, FILE_OVERWRITTEN,
};

#define FILE_WRITE_TO_END_OF_FILE      ((uint64_t)-1)    // as ByteOffset
#define FILE_USE_FILE_POINTER_POSITION ((uint64_t)-2)

typedef enum FILE_INFORMATION_CLASS {
    FileStandardInformation = 5,
    FilePositionInformation = 14,
    FileCompletionInformation = 30,
    FileIoCompletionNotificationInformation = 41,
} FILE_INFORMATION_CLASS;

typedef struct FILE_STANDARD_INFORMATION {
    uint64_t AllocationSize, EndOfFile;
    uint32_t NumberOfLinks;
    bool DeletePending, Directory;
} FILE_STANDARD_INFORMATION;

typedef struct FILE_POSITION_INFORMATION {
    uint64_t CurrentByteOffset;
} FILE_POSITION_INFORMATION;

typedef struct FILE_COMPLETION_INFORMATION {
    HANDLE Port;
    void *Key;
} FILE_COMPLETION_INFORMATION;

enum {
    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS = 1, FILE_SKIP_SET_EVENT_ON_HANDLE = 2
};

typedef struct FILE_IO_COMPLETION_NOTIFICATION_INFORMATION {
    uint32_t Flags;
} FILE_IO_COMPLETION_NOTIFICATION_INFORMATION;

// One directory entry; NtQueryDirectoryFile fills an array of these.
typedef struct FILE_NAMES_INFORMATION {
    uint64_t EndOfFile;
    uint32_t Directory;    // 1: a directory
    char FileName[100];    // ends with a zero
} FILE_NAMES_INFORMATION;

typedef struct FILE_IO_COMPLETION_INFORMATION {
    void *KeyContext, *ApcContext;
    IO_STATUS_BLOCK IoStatusBlock;
} FILE_IO_COMPLETION_INFORMATION;

// One write of nt_write_array: what NtWriteFile takes, without event and APC.
typedef struct NT_ARRAY_WRITE {
    void *ApcContext;
    IO_STATUS_BLOCK *IoStatusBlock;
    void *Buffer;
    uint64_t ByteOffset;
    uint32_t Length, reserved;
} NT_ARRAY_WRITE;

#define CTL_CODE(type, function, method, access) \
    ((type) << 16 | (access) << 14 | (function) << 2 | (method))
#define METHOD_BUFFERED    0u
#define FILE_ANY_ACCESS    0u
#define FILE_DEVICE_DISK   0x07u
#define FILE_DEVICE_SERIAL_PORT 0x1Bu

// Whom Ctrl-C ends. Input: a HANDLE of a process, or NULL for nobody.
#define IOCTL_CONSOLE_SET_FOREGROUND \
    CTL_CODE(FILE_DEVICE_SERIAL_PORT, 0x800u, METHOD_BUFFERED, FILE_ANY_ACCESS)
// Output: DISK_GEOMETRY.
#define IOCTL_DISK_GET_DRIVE_GEOMETRY \
    CTL_CODE(FILE_DEVICE_DISK, 0u, METHOD_BUFFERED, FILE_ANY_ACCESS)

typedef struct DISK_GEOMETRY {
    uint64_t DiskSize;    // bytes
    uint32_t BytesPerSector;
} DISK_GEOMETRY;

// ---- Dispatcher objects ---------------------------------------------------

typedef enum EVENT_TYPE { NotificationEvent, SynchronizationEvent } EVENT_TYPE;
typedef enum TIMER_TYPE { NotificationTimer, SynchronizationTimer } TIMER_TYPE;
typedef enum WAIT_TYPE { WaitAll, WaitAny } WAIT_TYPE;

#define MAXIMUM_WAIT_OBJECTS 64

typedef struct EVENT_BASIC_INFORMATION {
    EVENT_TYPE EventType;
    int32_t EventState;
} EVENT_BASIC_INFORMATION;

// ---- Threads and processes ------------------------------------------------

#define THREAD_CREATE_FLAGS_CREATE_SUSPENDED 0x1u

// What ring 3 looks like when it is interrupted; the FXSAVE area is part of
// it. The first line is in the order of the kernel's trap frame.
typedef struct CONTEXT {
    uint64_t R15, R14, R13, R12, Rbp, Rbx, R11, R10, R9, R8, Rdi, Rsi, Rdx,
             Rcx, Rax;
    uint64_t Rip, EFlags, Rsp;
    uint64_t reserved[2];
    uint8_t FltSave[512] __attribute__((aligned(16)));
} CONTEXT;

// An image has one entry point. The kernel enters it with the reason in rdi.
enum {
    NT_ENTRY_PROCESS,    // rsi = PEB *
    NT_ENTRY_THREAD,     // rsi = start routine, rdx = its argument
    NT_ENTRY_APC,        // rsi = CONTEXT *, rdx = routine,
};                       // rcx, r8, r9 = its three arguments

// What a process is told about itself; lies in its own memory. At its start the
// two strings are empty: their texts, each with a final zero, follow the PEB.
typedef struct RTL_USER_PROCESS_PARAMETERS {
    STRING ImagePathName, CommandLine;
    HANDLE StandardInput, StandardOutput, StandardError;
} RTL_USER_PROCESS_PARAMETERS;

typedef struct PEB {
    RTL_USER_PROCESS_PARAMETERS ProcessParameters;
    CLIENT_ID ClientId;       // of the first thread
    uint32_t FirstProgram;    // 1: the kernel started this process itself
    uint32_t Restarts;        // 1: and starts it again when it ends
} PEB;

typedef struct PROCESS_BASIC_INFORMATION {
    NTSTATUS ExitStatus;    // STATUS_PENDING while it lives
    uint32_t HandleCount;
    uint64_t UniqueProcessId, InheritedFromUniqueProcessId;
} PROCESS_BASIC_INFORMATION;

typedef struct THREAD_BASIC_INFORMATION {
    NTSTATUS ExitStatus;    // STATUS_PENDING while it lives
    int32_t Priority, BasePriority;
    uint32_t SuspendCount;
    CLIENT_ID ClientId;
    uint64_t AffinityMask;
} THREAD_BASIC_INFORMATION;

typedef enum PROCESSINFOCLASS { ProcessBasicInformation } PROCESSINFOCLASS;

typedef enum THREADINFOCLASS {
    ThreadBasicInformation = 0,
    ThreadBasePriority = 3,     // set: int32_t, -2..2 around the process's
    ThreadAffinityMask = 4,     // set: uint64_t
} THREADINFOCLASS;

// ---- Memory ---------------------------------------------------------------

enum {
    PAGE_NOACCESS = 0x01, PAGE_READONLY = 0x02, PAGE_READWRITE = 0x04,
    PAGE_EXECUTE = 0x10, PAGE_EXECUTE_READ = 0x20,
    PAGE_EXECUTE_READWRITE = 0x40,    // refused: W^X
    MEM_COMMIT = 0x1000, MEM_RESERVE = 0x2000, MEM_RELEASE = 0x8000,
    MEM_FREE = 0x10000,
};

typedef struct MEMORY_BASIC_INFORMATION {
    void *BaseAddress, *AllocationBase;
    size_t RegionSize;
    uint32_t State, Protect;
} MEMORY_BASIC_INFORMATION;

// ---- Looking at the system ------------------------------------------------

typedef enum SYSTEM_INFORMATION_CLASS {
    SystemBasicInformation = 0,       // SYSTEM_BASIC_INFORMATION
    SystemPerformanceInformation = 2, // SYSTEM_PERFORMANCE_INFORMATION
    SystemSnapshotInformation = 0x1000,    // ours: SYSTEM_SNAPSHOT
} SYSTEM_INFORMATION_CLASS;

typedef struct SYSTEM_BASIC_INFORMATION {
    uint32_t PageSize, NumberOfProcessors;
    uint64_t NumberOfPhysicalPages;
    uint64_t MinimumUserModeAddress, MaximumUserModeAddress;
    uint32_t NumberOfDisks, Checked;    // 1: the checked build
    char Version[32];
} SYSTEM_BASIC_INFORMATION;

// What must be back where it was when a program has ended.
typedef struct SYSTEM_PERFORMANCE_INFORMATION {
    uint64_t AvailablePages;
    uint64_t PoolBytes;      // in use: not those kept for later
    uint64_t PoolBlocks;
    uint64_t Handles, Objects;
    uint64_t Irps;           // allocated and not freed
    uint64_t Threads, Processes;
    uint64_t PoolPages;      // how many hold small blocks depends on how those
                             // came and went: add it to AvailablePages
} SYSTEM_PERFORMANCE_INFORMATION;

typedef enum KTHREAD_STATE {
    Initialized, Ready, Running, Terminated = 4, Waiting
} KTHREAD_STATE;

typedef enum KWAIT_REASON {
    Executive,       // the kernel waits for itself, such as a synchronous I/O
    DelayExecution,
    Suspended,
    UserRequest,     // NtWaitFor...
    WrQueue,         // NtRemoveIoCompletion
    MaximumWaitReason
} KWAIT_REASON;

// NtQuerySystemInformation(SystemSnapshotInformation): this header, then
// Processors, Threads and Irps elements of the three types below.
typedef struct SYSTEM_SNAPSHOT {
    uint64_t Time;    // ticks of the performance counter
    uint32_t Processors, Threads, Irps, reserved;
} SYSTEM_SNAPSHOT;

typedef struct SNAPSHOT_PROCESSOR {
    uint32_t Number;
    uint32_t CurrentThread;    // its id; 0: the idle thread
    uint64_t HaltedSince;      // ticks; 0: it is not halted
    uint64_t HaltedTime;       // ticks, of the halts that are over
    uint64_t IsrTime, DpcTime; // the rest is threads'
    uint32_t Interrupts, Dpcs;
} SNAPSHOT_PROCESSOR;

typedef struct SNAPSHOT_THREAD {
    uint32_t ThreadId, ProcessId;
    char Image[16];          // the program
    uint8_t State;           // KTHREAD_STATE
    uint8_t WaitReason;      // KWAIT_REASON
    uint8_t Priority, BasePriority;
    uint32_t WaitObjects;    // how many it waits for
    char WaitObject[16];     // the type of the first
    uint32_t IrpId;          // the IRP that its call or APC belongs to, or 0
    uint32_t reserved;
    uint64_t RunTime;        // ticks
    uint64_t Switches;
} SNAPSHOT_THREAD;

typedef enum SNAPSHOT_IRP_STATE {
    IrpCreated, IrpQueued, IrpAtDevice, IrpCompleted
} SNAPSHOT_IRP_STATE;

typedef struct SNAPSHOT_IRP {
    uint32_t IrpId;
    uint32_t ThreadId, ProcessId;    // of the thread that asked
    uint8_t MajorFunction, State;    // SNAPSHOT_IRP_STATE
    uint16_t reserved;
    char Device[16];
} SNAPSHOT_IRP;

// ---- The trace ring -------------------------------------------------------

// One record. Which ring says which processor; the thread is that of the last
// TRACE_SWITCH before it. Event = code | IRQL << 8.
typedef struct TRACE_RECORD {
    uint64_t Time;    // time stamp counter
    uint16_t Event;
    uint16_t Aux;
    uint32_t Id;      // of an IRP, a thread, or as the code says
} TRACE_RECORD;

#define TRACE_CODE(event) ((event) & 0xFFu)
#define TRACE_IRQL(event) ((event) >> 8 & 0xFu)

// code                      Id       Aux        stage of the road
typedef enum TRACE_EVENT {
    TRACE_SWITCH = 1,     // thread   *)         a thread gets the processor
    TRACE_IRP_BUILT,      // IRP      major      2
    TRACE_IRP_CALL,       // IRP      major      3  IoCallDriver
    TRACE_IRP_QUEUED,     // IRP      -          3  behind another request
    TRACE_DMA_START,      // IRP      disk       4  address is in the device
    TRACE_IRP_PENDING,    // IRP      -          5  STATUS_PENDING goes back
    TRACE_IDLE_IN,        // -        -          6  next is hlt
    TRACE_IDLE_OUT,       // -        -          6
    TRACE_ISR_IN,         // vector   -          7  not for self-IPIs
    TRACE_ISR_OUT,        // vector   -          7
    TRACE_DPC_IN,         // -        -          8  the drain begins
    TRACE_DPC_OUT,        // -        -          8
    TRACE_IRP_COMPLETE,   // IRP      -          9  IoCompleteRequest
    TRACE_APC_IN,         // thread   -          10 kernel APCs are delivered
    TRACE_APC_OUT,        // thread   -          10
    TRACE_IRP_DONE,       // IRP      -          10 status stored
    TRACE_PORT_INSERT,    // IRP or 0 depth      10 packet in the port
    TRACE_PORT_REMOVE,    // IRP or 0 -          11 a thread took it; 0, a post,
                          //                     only beside PORT_INSERT
    TRACE_USER_APC,       // thread   -          10 user APC to ring 3
    TRACE_SERVICE,        // number   -          1  system call begins
    TRACE_READY,          // thread   priority   a thread became ready
    TRACE_EVENTS
} TRACE_EVENT;
// *) the KWAIT_REASON and, from bit 8 on, the KTHREAD_STATE of the one before

// ---- Services -------------------------------------------------------------

// Time-outs: NULL waits for ever; *timeout in 100 ns, negative = relative.

// X(name, number of arguments, (arguments)): a signature stands here and
// nowhere else; the position is the service's number.
//
// May be NULL: attributes, previous, current, returned, frequency, a time-out,
// thread of NtCreateUserProcess, old of nt_trace_mask and nt_set_road.
// NtQueryDirectoryFile fills in whole FILE_NAMES_INFORMATION;
// STATUS_NO_MORE_FILES at the end. NtCreateUserProcess starts a program; the
// three standard handles are given to it as duplicates.
//
// Ours, the last six:
//   nt_write_array starts count writes on an asynchronous handle as NtWriteFile
//     would, one after the other, but in one call: the device hears of up to 64
//     at once. *sent writes were accepted; if that is not all, the status is
//     that of the next one, and no other was looked at.
//   nt_set_thread_base sets the calling thread's FS base (thread-local data).
//   nt_trace_mask says which events are to be traced for this process, until it
//     says otherwise or ends, one bit per TRACE_EVENT; beside those that the
//     kernel was started with, and those of others. What it said before goes to
//     *old.
//   nt_trace_read copies up to count records of a processor's ring from
//     *position on (0: the oldest), moves *position behind the last one, and
//     says how many were copied and how many had been overwritten before they
//     could be read.
//   nt_set_road chooses the road of all completions from now on, and says which
//     it was: 0 the one with the APC, 1 the direct one.
//   nt_shutdown ends QEMU, or powers off; see the exit codes in the README.
#define NT_SERVICES(X)                                                       \
    X(NtClose, 1, (HANDLE handle))                                           \
    X(NtCreateFile, 7, (HANDLE *file, ACCESS_MASK access,                    \
      const OBJECT_ATTRIBUTES *attributes, IO_STATUS_BLOCK *iosb,            \
      uint32_t share, uint32_t disposition, uint32_t options))               \
    X(NtReadFile, 8, (HANDLE file, HANDLE event, IO_APC_ROUTINE *apc,        \
      void *apc_context, IO_STATUS_BLOCK *iosb, void *buffer,                \
      uint32_t length, uint64_t offset))                                     \
    X(NtWriteFile, 8, (HANDLE file, HANDLE event, IO_APC_ROUTINE *apc,       \
      void *apc_context, IO_STATUS_BLOCK *iosb, void *buffer,                \
      uint32_t length, uint64_t offset))                                     \
    X(NtFlushBuffersFile, 2, (HANDLE file, IO_STATUS_BLOCK *iosb))           \
    X(NtDeviceIoControlFile, 10,                                             \
      (HANDLE file, HANDLE event, IO_APC_ROUTINE *apc, void *apc_context,    \
      IO_STATUS_BLOCK *iosb, uint32_t code, void *input,                     \
      uint32_t input_length, void *output, uint32_t output_length))          \
    X(NtCancelIoFile, 2, (HANDLE file, IO_STATUS_BLOCK *iosb))               \
    X(NtCancelSynchronousIoFile, 3, (HANDLE thread,                          \
      IO_STATUS_BLOCK *request, IO_STATUS_BLOCK *iosb))                      \
    X(NtCancelIoFileEx, 3,                                                   \
      (HANDLE file, IO_STATUS_BLOCK *request, IO_STATUS_BLOCK *iosb))        \
    X(NtQueryInformationFile, 5,                                             \
      (HANDLE file, IO_STATUS_BLOCK *iosb, void *buffer, uint32_t length,    \
      FILE_INFORMATION_CLASS information_class))                             \
    X(NtSetInformationFile, 5,                                               \
      (HANDLE file, IO_STATUS_BLOCK *iosb, void *buffer, uint32_t length,    \
      FILE_INFORMATION_CLASS information_class))                             \
    X(NtQueryDirectoryFile, 5, (HANDLE file, IO_STATUS_BLOCK *iosb,          \
      void *buffer, uint32_t length, bool restart))                          \
    X(NtDuplicateObject, 7, (HANDLE source_process, HANDLE source,           \
      HANDLE target_process, HANDLE *target, ACCESS_MASK access,             \
      uint32_t attributes, uint32_t options))                                \
    X(NtCreateIoCompletion, 4, (HANDLE *port, ACCESS_MASK access,            \
      const OBJECT_ATTRIBUTES *attributes, uint32_t count))                  \
    X(NtSetIoCompletion, 5, (HANDLE port, void *key, void *apc_context,      \
      NTSTATUS status, uintptr_t information))                               \
    X(NtRemoveIoCompletion, 5, (HANDLE port, void **key, void **apc_context, \
      IO_STATUS_BLOCK *iosb, const int64_t *timeout))                        \
    X(NtRemoveIoCompletionEx, 6,                                             \
      (HANDLE port, FILE_IO_COMPLETION_INFORMATION *entries, uint32_t count, \
      uint32_t *removed, const int64_t *timeout, bool alertable))            \
    X(NtQueryIoCompletion, 2, (HANDLE port, uint32_t *depth))                \
    X(NtCreateEvent, 5, (HANDLE *event, ACCESS_MASK access,                  \
      const OBJECT_ATTRIBUTES *attributes, EVENT_TYPE type, bool state))     \
    X(NtSetEvent, 2, (HANDLE event, int32_t *previous))                      \
    X(NtResetEvent, 2, (HANDLE event, int32_t *previous))                    \
    X(NtPulseEvent, 2, (HANDLE event, int32_t *previous))                    \
    X(NtQueryEvent, 2, (HANDLE event, EVENT_BASIC_INFORMATION *information)) \
    X(NtCreateSemaphore, 5, (HANDLE *semaphore, ACCESS_MASK access,          \
      const OBJECT_ATTRIBUTES *attributes, int32_t initial,                  \
      int32_t maximum))                                                      \
    X(NtReleaseSemaphore, 3,                                                 \
      (HANDLE semaphore, int32_t count, int32_t *previous))                  \
    X(NtCreateMutant, 4, (HANDLE *mutant, ACCESS_MASK access,                \
      const OBJECT_ATTRIBUTES *attributes, bool owned))                      \
    X(NtReleaseMutant, 2, (HANDLE mutant, int32_t *previous))                \
    X(NtCreateTimer, 4, (HANDLE *timer, ACCESS_MASK access,                  \
      const OBJECT_ATTRIBUTES *attributes, TIMER_TYPE type))                 \
    X(NtSetTimer, 7,                                                         \
      (HANDLE timer, const int64_t *due, TIMER_APC_ROUTINE *apc,             \
      void *apc_context, bool resume, int32_t period_ms, bool *previous))    \
    X(NtCancelTimer, 2, (HANDLE timer, bool *current))                       \
    X(NtWaitForSingleObject, 3,                                              \
      (HANDLE handle, bool alertable, const int64_t *timeout))               \
    X(NtWaitForMultipleObjects, 5, (uint32_t count, const HANDLE *handles,   \
      WAIT_TYPE type, bool alertable, const int64_t *timeout))               \
    X(NtDelayExecution, 2, (bool alertable, const int64_t *interval))        \
    X(NtYieldExecution, 0, (void))                                           \
    X(NtQueueApcThread, 5, (HANDLE thread, PS_APC_ROUTINE *routine,          \
      void *argument1, void *argument2, void *argument3))                    \
    X(NtTestAlert, 0, (void))                                                \
    X(NtAlertThread, 1, (HANDLE thread))                                     \
    X(NtContinue, 2, (const CONTEXT *context, bool test_alert))              \
    X(NtCreateThreadEx, 8, (HANDLE *thread, ACCESS_MASK access,              \
      const OBJECT_ATTRIBUTES *attributes, HANDLE process,                   \
      void *start_routine, void *argument, uint32_t flags,                   \
      size_t stack_size))                                                    \
    X(NtTerminateThread, 2, (HANDLE thread, NTSTATUS status))                \
    X(NtSuspendThread, 2, (HANDLE thread, uint32_t *previous))               \
    X(NtResumeThread, 2, (HANDLE thread, uint32_t *previous))                \
    X(NtOpenThread, 4, (HANDLE *thread, ACCESS_MASK access,                  \
      const OBJECT_ATTRIBUTES *attributes, const CLIENT_ID *id))             \
    X(NtQueryInformationThread, 5,                                           \
      (HANDLE thread, THREADINFOCLASS information_class, void *buffer,       \
      uint32_t length, uint32_t *returned))                                  \
    X(NtSetInformationThread, 4,                                             \
      (HANDLE thread, THREADINFOCLASS information_class, const void *buffer, \
      uint32_t length))                                                      \
    X(NtCreateUserProcess, 6, (HANDLE *process, HANDLE *thread,              \
      ACCESS_MASK process_access, ACCESS_MASK thread_access,                 \
      uint32_t thread_flags, const RTL_USER_PROCESS_PARAMETERS *parameters)) \
    X(NtOpenProcess, 4, (HANDLE *process, ACCESS_MASK access,                \
      const OBJECT_ATTRIBUTES *attributes, const CLIENT_ID *id))             \
    X(NtTerminateProcess, 2, (HANDLE process, NTSTATUS status))              \
    X(NtQueryInformationProcess, 5,                                          \
      (HANDLE process, PROCESSINFOCLASS information_class, void *buffer,     \
      uint32_t length, uint32_t *returned))                                  \
    X(NtAllocateVirtualMemory, 5, (HANDLE process, void **base,              \
      size_t *size, uint32_t type, uint32_t protect))                        \
    X(NtFreeVirtualMemory, 4,                                                \
      (HANDLE process, void **base, size_t *size, uint32_t type))            \
    X(NtProtectVirtualMemory, 5, (HANDLE process, void **base, size_t *size, \
      uint32_t protect, uint32_t *old))                                      \
    X(NtQueryVirtualMemory, 3, (HANDLE process, const void *base,            \
      MEMORY_BASIC_INFORMATION *information))                                \
    X(NtQuerySystemInformation, 4, (SYSTEM_INFORMATION_CLASS information_class,\
      void *buffer, uint32_t length, uint32_t *returned))                    \
    X(NtQueryPerformanceCounter, 2, (int64_t *counter, int64_t *frequency))  \
    X(NtQuerySystemTime, 1, (int64_t *time))                                 \
    X(nt_write_array, 4, (HANDLE file, const NT_ARRAY_WRITE *writes,         \
      uint32_t count, uint32_t *sent))                                       \
    X(nt_set_thread_base, 1, (void *base))                                   \
    X(nt_trace_mask, 2, (uint32_t mask, uint32_t *old))                      \
    X(nt_trace_read, 6,                                                      \
      (uint32_t processor, uint64_t *position, TRACE_RECORD *records,        \
      uint32_t count, uint32_t *copied, uint32_t *lost))                     \
    X(nt_set_road, 2, (uint32_t direct, uint32_t *old))                      \
    X(nt_shutdown, 1, (uint32_t code))

#define NT_SERVICE_NUMBER(name, count, arguments) NT_SERVICE_##name,
enum { NT_SERVICES(NT_SERVICE_NUMBER) NT_SERVICE_COUNT };

#define NT_SERVICE_PROTOTYPE(name, count, arguments) NTSTATUS name arguments;
NT_SERVICES(NT_SERVICE_PROTOTYPE)
