// ntabi.h - all that ring 3 shares with the kernel.
//
// The services and their numbers, the status codes, and every structure that
// crosses the border. user/include/ntdll.h is this file and nothing else, so a
// program and the kernel can never disagree. Values are Windows' own wherever
// Windows has one.

#ifndef TINT_NTABI_H
#define TINT_NTABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int32_t NTSTATUS;
typedef void *HANDLE;
typedef uint32_t ACCESS_MASK;

#define NT_SUCCESS(status) ((NTSTATUS)(status) >= 0)
#define NT_ERROR(status)   ((uint32_t)(status) >> 30 == 3)

// ---- Status codes ---------------------------------------------------------

#define STATUS_SUCCESS                  ((NTSTATUS)0x00000000)
#define STATUS_WAIT_0                   ((NTSTATUS)0x00000000)
#define STATUS_ABANDONED_WAIT_0         ((NTSTATUS)0x00000080)
#define STATUS_USER_APC                 ((NTSTATUS)0x000000C0)
#define STATUS_KERNEL_APC               ((NTSTATUS)0x00000100)
#define STATUS_ALERTED                  ((NTSTATUS)0x00000101)
#define STATUS_TIMEOUT                  ((NTSTATUS)0x00000102)
#define STATUS_PENDING                  ((NTSTATUS)0x00000103)
#define STATUS_BUFFER_OVERFLOW          ((NTSTATUS)0x80000005)
#define STATUS_NO_MORE_FILES            ((NTSTATUS)0x80000006)
#define STATUS_BREAKPOINT               ((NTSTATUS)0x80000003)
#define STATUS_SINGLE_STEP              ((NTSTATUS)0x80000004)
#define STATUS_UNSUCCESSFUL             ((NTSTATUS)0xC0000001)
#define STATUS_NOT_IMPLEMENTED          ((NTSTATUS)0xC0000002)
#define STATUS_INVALID_INFO_CLASS       ((NTSTATUS)0xC0000003)
#define STATUS_INFO_LENGTH_MISMATCH     ((NTSTATUS)0xC0000004)
#define STATUS_ACCESS_VIOLATION         ((NTSTATUS)0xC0000005)
#define STATUS_INVALID_HANDLE           ((NTSTATUS)0xC0000008)
#define STATUS_INVALID_CID              ((NTSTATUS)0xC000000B)
#define STATUS_INVALID_PARAMETER        ((NTSTATUS)0xC000000D)
#define STATUS_NO_SUCH_DEVICE           ((NTSTATUS)0xC000000E)
#define STATUS_INVALID_DEVICE_REQUEST   ((NTSTATUS)0xC0000010)
#define STATUS_END_OF_FILE              ((NTSTATUS)0xC0000011)
#define STATUS_NO_MEDIA_IN_DEVICE       ((NTSTATUS)0xC0000013)
#define STATUS_NONEXISTENT_SECTOR       ((NTSTATUS)0xC0000015)
#define STATUS_MORE_PROCESSING_REQUIRED ((NTSTATUS)0xC0000016)
#define STATUS_NO_MEMORY                ((NTSTATUS)0xC0000017)
#define STATUS_CONFLICTING_ADDRESSES    ((NTSTATUS)0xC0000018)
#define STATUS_INVALID_SYSTEM_SERVICE   ((NTSTATUS)0xC000001C)
#define STATUS_ILLEGAL_INSTRUCTION      ((NTSTATUS)0xC000001D)
#define STATUS_ACCESS_DENIED            ((NTSTATUS)0xC0000022)
#define STATUS_BUFFER_TOO_SMALL         ((NTSTATUS)0xC0000023)
#define STATUS_OBJECT_TYPE_MISMATCH     ((NTSTATUS)0xC0000024)
#define STATUS_OBJECT_NAME_INVALID      ((NTSTATUS)0xC0000033)
#define STATUS_OBJECT_NAME_NOT_FOUND    ((NTSTATUS)0xC0000034)
#define STATUS_OBJECT_NAME_COLLISION    ((NTSTATUS)0xC0000035)
#define STATUS_DATA_ERROR               ((NTSTATUS)0xC000003E)
#define STATUS_CRC_ERROR                ((NTSTATUS)0xC000003F)
#define STATUS_QUOTA_EXCEEDED           ((NTSTATUS)0xC0000044)
#define STATUS_INVALID_PAGE_PROTECTION  ((NTSTATUS)0xC0000045)
#define STATUS_MUTANT_NOT_OWNED         ((NTSTATUS)0xC0000046)
#define STATUS_SEMAPHORE_LIMIT_EXCEEDED ((NTSTATUS)0xC0000047)
#define STATUS_THREAD_IS_TERMINATING    ((NTSTATUS)0xC000004B)
#define STATUS_SUSPEND_COUNT_EXCEEDED   ((NTSTATUS)0xC000004A)
#define STATUS_INVALID_IMAGE_FORMAT     ((NTSTATUS)0xC000007B)
#define STATUS_DISK_FULL                ((NTSTATUS)0xC000007F)
#define STATUS_FLOAT_DIVIDE_BY_ZERO     ((NTSTATUS)0xC000008E)
#define STATUS_FLOAT_INVALID_OPERATION  ((NTSTATUS)0xC0000090)
#define STATUS_INTEGER_DIVIDE_BY_ZERO   ((NTSTATUS)0xC0000094)
#define STATUS_INTEGER_OVERFLOW         ((NTSTATUS)0xC0000095)
#define STATUS_PRIVILEGED_INSTRUCTION   ((NTSTATUS)0xC0000096)
#define STATUS_INSUFFICIENT_RESOURCES   ((NTSTATUS)0xC000009A)
#define STATUS_DEVICE_DATA_ERROR        ((NTSTATUS)0xC000009C)
#define STATUS_MEDIA_WRITE_PROTECTED    ((NTSTATUS)0xC00000A2)
#define STATUS_DEVICE_NOT_READY         ((NTSTATUS)0xC00000A3)
#define STATUS_IO_TIMEOUT               ((NTSTATUS)0xC00000B5)
#define STATUS_NOT_SUPPORTED            ((NTSTATUS)0xC00000BB)
#define STATUS_FILE_IS_A_DIRECTORY      ((NTSTATUS)0xC00000BA)
#define STATUS_INTERNAL_ERROR           ((NTSTATUS)0xC00000E5)
#define STATUS_STACK_OVERFLOW           ((NTSTATUS)0xC00000FD)
#define STATUS_NOT_A_DIRECTORY          ((NTSTATUS)0xC0000103)
#define STATUS_PROCESS_IS_TERMINATING   ((NTSTATUS)0xC000010A)
#define STATUS_CANCELLED                ((NTSTATUS)0xC0000120)
#define STATUS_FILE_CLOSED              ((NTSTATUS)0xC0000128)
#define STATUS_CONTROL_C_EXIT           ((NTSTATUS)0xC000013A)
#define STATUS_IO_DEVICE_ERROR          ((NTSTATUS)0xC0000185)
#define STATUS_NOT_FOUND                ((NTSTATUS)0xC0000225)
#define STATUS_DATATYPE_MISALIGNMENT    ((NTSTATUS)0x80000002)
#define STATUS_ASSERTION_FAILURE        ((NTSTATUS)0xC0000420)

// ---- Handles and access ---------------------------------------------------

#define NtCurrentProcess() ((HANDLE)(intptr_t)-1)
#define NtCurrentThread()  ((HANDLE)(intptr_t)-2)

#define FILE_READ_DATA         0x0001u
#define FILE_LIST_DIRECTORY    0x0001u
#define FILE_WRITE_DATA        0x0002u
#define FILE_APPEND_DATA       0x0004u
#define FILE_READ_ATTRIBUTES   0x0080u
#define EVENT_QUERY_STATE      0x0001u
#define EVENT_MODIFY_STATE     0x0002u
#define SEMAPHORE_MODIFY_STATE 0x0002u
#define MUTANT_QUERY_STATE     0x0001u
#define TIMER_QUERY_STATE      0x0001u
#define TIMER_MODIFY_STATE     0x0002u
#define IO_COMPLETION_QUERY_STATE  0x0001u
#define IO_COMPLETION_MODIFY_STATE 0x0002u
#define PROCESS_TERMINATE          0x0001u
#define PROCESS_CREATE_THREAD      0x0002u
#define PROCESS_VM_OPERATION       0x0008u
#define PROCESS_DUP_HANDLE         0x0040u
#define PROCESS_QUERY_INFORMATION  0x0400u
#define THREAD_TERMINATE           0x0001u
#define THREAD_SUSPEND_RESUME      0x0002u
#define THREAD_ALERT               0x0004u
#define THREAD_SET_CONTEXT         0x0010u
#define THREAD_SET_INFORMATION     0x0020u
#define THREAD_QUERY_INFORMATION   0x0040u
#define SYNCHRONIZE            0x00100000u
#define MAXIMUM_ALLOWED        0x02000000u
#define GENERIC_ALL            0x10000000u
#define GENERIC_WRITE          0x40000000u
#define GENERIC_READ           0x80000000u
#define STANDARD_RIGHTS_ALL    0x001F0000u
#define SPECIFIC_RIGHTS_ALL    0x0000FFFFu
#define ALL_ACCESS             0x001FFFFFu

#define DUPLICATE_CLOSE_SOURCE 0x1u
#define DUPLICATE_SAME_ACCESS  0x2u

// A counted string; names in TINT are 8-bit.
typedef struct STRING {
    uint16_t Length;
    uint16_t MaximumLength;
    const char *Buffer;
} STRING;

typedef struct OBJECT_ATTRIBUTES {
    uint32_t Length;        // sizeof(OBJECT_ATTRIBUTES)
    uint32_t Attributes;    // OBJ_...
    STRING ObjectName;      // by value: no pointer to chase
} OBJECT_ATTRIBUTES;

typedef struct CLIENT_ID {
    uint64_t UniqueProcess;
    uint64_t UniqueThread;
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
typedef void PS_APC_ROUTINE(void *argument1, void *argument2,
                            void *argument3);
typedef void TIMER_APC_ROUTINE(void *context, uint32_t low, int32_t high);

#define FILE_SHARE_READ   0x1u
#define FILE_SHARE_WRITE  0x2u
#define FILE_SHARE_DELETE 0x4u

#define FILE_SUPERSEDE    0u    // create disposition
#define FILE_OPEN         1u
#define FILE_CREATE       2u
#define FILE_OPEN_IF      3u
#define FILE_OVERWRITE    4u
#define FILE_OVERWRITE_IF 5u

#define FILE_DIRECTORY_FILE            0x00000001u    // create options
#define FILE_SYNCHRONOUS_IO_ALERT      0x00000010u
#define FILE_SYNCHRONOUS_IO_NONALERT   0x00000020u
#define FILE_NON_DIRECTORY_FILE        0x00000040u

#define FILE_SUPERSEDED  0u    // Information of a create
#define FILE_OPENED      1u
#define FILE_CREATED     2u
#define FILE_OVERWRITTEN 3u

#define FILE_WRITE_TO_END_OF_FILE      ((uint64_t)-1)    // as ByteOffset
#define FILE_USE_FILE_POINTER_POSITION ((uint64_t)-2)

typedef enum FILE_INFORMATION_CLASS {
    FileStandardInformation = 5,
    FilePositionInformation = 14,
    FileEndOfFileInformation = 20,
    FileCompletionInformation = 30,
    FileIoCompletionNotificationInformation = 41,
} FILE_INFORMATION_CLASS;

typedef struct FILE_STANDARD_INFORMATION {
    uint64_t AllocationSize;
    uint64_t EndOfFile;
    uint32_t NumberOfLinks;
    bool DeletePending;
    bool Directory;
} FILE_STANDARD_INFORMATION;

typedef struct FILE_POSITION_INFORMATION {
    uint64_t CurrentByteOffset;
} FILE_POSITION_INFORMATION;

typedef struct FILE_COMPLETION_INFORMATION {
    HANDLE Port;
    void *Key;
} FILE_COMPLETION_INFORMATION;

#define FILE_SKIP_COMPLETION_PORT_ON_SUCCESS 0x1u
#define FILE_SKIP_SET_EVENT_ON_HANDLE        0x2u

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
    void *KeyContext;
    void *ApcContext;
    IO_STATUS_BLOCK IoStatusBlock;
} FILE_IO_COMPLETION_INFORMATION;

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
    uint32_t HasVolume;   // 1: a boot sector with a file system was seen
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
#define NT_ENTRY_PROCESS 0    // rsi = PEB *
#define NT_ENTRY_THREAD  1    // rsi = start routine, rdx = its argument
#define NT_ENTRY_APC     2    // rsi = CONTEXT *, rdx = routine,
                              // rcx, r8, r9 = its three arguments

// What a process is told about itself; lies in its own memory.
typedef struct RTL_USER_PROCESS_PARAMETERS {
    STRING ImagePathName;
    STRING CommandLine;
    HANDLE StandardInput;
    HANDLE StandardOutput;
    HANDLE StandardError;
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
    uint64_t UniqueProcessId;
    uint64_t InheritedFromUniqueProcessId;
} PROCESS_BASIC_INFORMATION;

typedef struct THREAD_BASIC_INFORMATION {
    NTSTATUS ExitStatus;    // STATUS_PENDING while it lives
    int32_t Priority;
    int32_t BasePriority;
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

#define PAGE_NOACCESS          0x01u
#define PAGE_READONLY          0x02u
#define PAGE_READWRITE         0x04u
#define PAGE_EXECUTE           0x10u
#define PAGE_EXECUTE_READ      0x20u
#define PAGE_EXECUTE_READWRITE 0x40u    // refused: W^X
#define MEM_COMMIT             0x1000u
#define MEM_RESERVE            0x2000u
#define MEM_RELEASE            0x8000u
#define MEM_FREE               0x10000u

typedef struct MEMORY_BASIC_INFORMATION {
    void *BaseAddress;
    void *AllocationBase;
    size_t RegionSize;
    uint32_t State;
    uint32_t Protect;
} MEMORY_BASIC_INFORMATION;

// ---- Looking at the system ------------------------------------------------

typedef enum SYSTEM_INFORMATION_CLASS {
    SystemBasicInformation = 0,       // SYSTEM_BASIC_INFORMATION
    SystemPerformanceInformation = 2, // SYSTEM_PERFORMANCE_INFORMATION
    SystemSnapshotInformation = 0x1000,    // ours: SYSTEM_SNAPSHOT
} SYSTEM_INFORMATION_CLASS;

typedef struct SYSTEM_BASIC_INFORMATION {
    uint32_t PageSize;
    uint32_t NumberOfProcessors;
    uint64_t NumberOfPhysicalPages;
    uint64_t MinimumUserModeAddress;
    uint64_t MaximumUserModeAddress;
    uint32_t NumberOfDisks;
    uint32_t Checked;    // 1: the checked build
    char Version[32];
} SYSTEM_BASIC_INFORMATION;

// What must be back where it was when a program has ended.
typedef struct SYSTEM_PERFORMANCE_INFORMATION {
    uint64_t AvailablePages;
    uint64_t PoolBytes;      // allocated and not freed
    uint64_t PoolBlocks;
    uint64_t Handles;
    uint64_t Objects;
    uint64_t Irps;           // allocated and not freed
    uint64_t Threads;
    uint64_t Processes;
    uint64_t SpuriousInterrupts;
    uint64_t UnknownInterrupts;
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
    uint32_t Processors;
    uint32_t Threads;
    uint32_t Irps;
    uint32_t reserved;
} SYSTEM_SNAPSHOT;

typedef struct SNAPSHOT_PROCESSOR {
    uint32_t Number;
    uint32_t CurrentThread;    // its id; 0: the idle thread
    uint64_t HaltedSince;      // ticks; 0: it is not halted
    uint32_t Interrupts;
    uint32_t Dpcs;
} SNAPSHOT_PROCESSOR;

typedef struct SNAPSHOT_THREAD {
    uint32_t ThreadId;
    uint32_t ProcessId;
    char Image[16];          // the program
    uint8_t State;           // KTHREAD_STATE
    uint8_t WaitReason;      // KWAIT_REASON
    uint8_t Priority;
    uint8_t BasePriority;
    uint32_t WaitObjects;    // how many it waits for
    char WaitObject[16];     // the type of the first
    uint32_t IrpId;          // the IRP that its call or APC belongs to, or 0
    uint32_t IrpsIssued;     // pending IRPs that it asked for
    uint64_t RunTime;        // ticks
    uint64_t Switches;
} SNAPSHOT_THREAD;

typedef enum SNAPSHOT_IRP_STATE {
    IrpCreated, IrpQueued, IrpAtDevice, IrpCompleted
} SNAPSHOT_IRP_STATE;

typedef struct SNAPSHOT_IRP {
    uint32_t IrpId;
    uint32_t ThreadId;       // the thread that asked
    uint32_t ProcessId;
    uint8_t MajorFunction;
    uint8_t State;           // SNAPSHOT_IRP_STATE
    uint16_t reserved;
    char Device[16];
    uint64_t Offset;
    uint32_t Length;
    uint32_t reserved2;
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
    TRACE_SWITCH = 1,     // thread   -          a thread gets the processor
    TRACE_IRP_BUILT,      // IRP      major      2
    TRACE_IRP_CALL,       // IRP      major      3  IoCallDriver
    TRACE_IRP_QUEUED,     // IRP      -          3  behind another request
    TRACE_DMA_START,      // IRP      disk       4  address is in the device
    TRACE_IRP_PENDING,    // IRP      -          5  STATUS_PENDING goes back
    TRACE_IDLE_IN,        // -        -          6  next is hlt
    TRACE_IDLE_OUT,       // -        -          6
    TRACE_ISR_IN,         // vector   -          7
    TRACE_ISR_OUT,        // vector   -          7
    TRACE_DPC_IN,         // -        -          8  the drain begins
    TRACE_DPC_OUT,        // -        -          8
    TRACE_IRP_COMPLETE,   // IRP      -          9  IoCompleteRequest
    TRACE_APC_IN,         // thread   -          10 kernel APCs are delivered
    TRACE_APC_OUT,        // thread   -          10
    TRACE_IRP_DONE,       // IRP      -          10 status stored
    TRACE_PORT_INSERT,    // IRP or 0 depth      10 packet in the port
    TRACE_PORT_REMOVE,    // IRP or 0 depth      11 a thread took it
    TRACE_USER_APC,       // thread   -          10 user APC to ring 3
    TRACE_SERVICE,        // number   -          1  system call begins
    TRACE_READY,          // thread   priority   a thread became ready
    TRACE_EVENTS
} TRACE_EVENT;

// ---- Services -------------------------------------------------------------

// Time-outs: NULL waits for ever; *timeout in 100 ns, negative = relative.
// "T **x" parameters that return something may be NULL only where it says so.

// X(name, number of arguments); the position is the service number.
#define NT_SERVICES(X)              \
    X(NtClose, 1)                   \
    X(NtCreateFile, 7)              \
    X(NtReadFile, 8)                \
    X(NtWriteFile, 8)               \
    X(NtFlushBuffersFile, 2)        \
    X(NtDeviceIoControlFile, 10)    \
    X(NtCancelIoFile, 2)            \
    X(NtCancelIoFileEx, 3)          \
    X(NtQueryInformationFile, 5)    \
    X(NtSetInformationFile, 5)      \
    X(NtQueryDirectoryFile, 5)      \
    X(NtDuplicateObject, 7)         \
    X(NtCreateIoCompletion, 4)      \
    X(NtSetIoCompletion, 5)         \
    X(NtRemoveIoCompletion, 5)      \
    X(NtRemoveIoCompletionEx, 6)    \
    X(NtQueryIoCompletion, 2)       \
    X(NtCreateEvent, 5)             \
    X(NtSetEvent, 2)                \
    X(NtResetEvent, 2)              \
    X(NtPulseEvent, 2)              \
    X(NtQueryEvent, 2)              \
    X(NtCreateSemaphore, 5)         \
    X(NtReleaseSemaphore, 3)        \
    X(NtCreateMutant, 4)            \
    X(NtReleaseMutant, 2)           \
    X(NtCreateTimer, 4)             \
    X(NtSetTimer, 7)                \
    X(NtCancelTimer, 2)             \
    X(NtWaitForSingleObject, 3)     \
    X(NtWaitForMultipleObjects, 5)  \
    X(NtDelayExecution, 2)          \
    X(NtYieldExecution, 0)          \
    X(NtQueueApcThread, 5)          \
    X(NtTestAlert, 0)               \
    X(NtAlertThread, 1)             \
    X(NtContinue, 2)                \
    X(NtCreateThreadEx, 8)          \
    X(NtTerminateThread, 2)         \
    X(NtSuspendThread, 2)           \
    X(NtResumeThread, 2)            \
    X(NtOpenThread, 4)              \
    X(NtQueryInformationThread, 5)  \
    X(NtSetInformationThread, 4)    \
    X(NtCreateUserProcess, 6)       \
    X(NtOpenProcess, 4)             \
    X(NtTerminateProcess, 2)        \
    X(NtQueryInformationProcess, 5) \
    X(NtAllocateVirtualMemory, 5)   \
    X(NtFreeVirtualMemory, 4)       \
    X(NtProtectVirtualMemory, 5)    \
    X(NtQueryVirtualMemory, 3)      \
    X(NtQuerySystemInformation, 4)  \
    X(NtQueryPerformanceCounter, 2) \
    X(NtQuerySystemTime, 1)         \
    X(nt_set_thread_base, 1)        \
    X(nt_trace_mask, 2)             \
    X(nt_trace_read, 6)             \
    X(nt_shutdown, 1)

#define NT_SERVICE_NUMBER(name, arguments) NT_SERVICE_##name,
enum { NT_SERVICES(NT_SERVICE_NUMBER) NT_SERVICE_COUNT };

NTSTATUS NtClose(HANDLE handle);
NTSTATUS NtCreateFile(HANDLE *file, ACCESS_MASK access,
                      const OBJECT_ATTRIBUTES *attributes,
                      IO_STATUS_BLOCK *iosb, uint32_t share,
                      uint32_t disposition, uint32_t options);
NTSTATUS NtReadFile(HANDLE file, HANDLE event, IO_APC_ROUTINE *apc,
                    void *apc_context, IO_STATUS_BLOCK *iosb, void *buffer,
                    uint32_t length, uint64_t offset);
NTSTATUS NtWriteFile(HANDLE file, HANDLE event, IO_APC_ROUTINE *apc,
                     void *apc_context, IO_STATUS_BLOCK *iosb, void *buffer,
                     uint32_t length, uint64_t offset);
NTSTATUS NtFlushBuffersFile(HANDLE file, IO_STATUS_BLOCK *iosb);
NTSTATUS NtDeviceIoControlFile(HANDLE file, HANDLE event, IO_APC_ROUTINE *apc,
                               void *apc_context, IO_STATUS_BLOCK *iosb,
                               uint32_t code, void *input,
                               uint32_t input_length, void *output,
                               uint32_t output_length);
NTSTATUS NtCancelIoFile(HANDLE file, IO_STATUS_BLOCK *iosb);
NTSTATUS NtCancelIoFileEx(HANDLE file, IO_STATUS_BLOCK *request,
                          IO_STATUS_BLOCK *iosb);
NTSTATUS NtQueryInformationFile(HANDLE file, IO_STATUS_BLOCK *iosb,
                                void *buffer, uint32_t length,
                                FILE_INFORMATION_CLASS information_class);
NTSTATUS NtSetInformationFile(HANDLE file, IO_STATUS_BLOCK *iosb,
                              void *buffer, uint32_t length,
                              FILE_INFORMATION_CLASS information_class);
// Fills whole FILE_NAMES_INFORMATION; STATUS_NO_MORE_FILES at the end.
NTSTATUS NtQueryDirectoryFile(HANDLE file, IO_STATUS_BLOCK *iosb,
                              void *buffer, uint32_t length, bool restart);
NTSTATUS NtDuplicateObject(HANDLE source_process, HANDLE source,
                           HANDLE target_process, HANDLE *target,
                           ACCESS_MASK access, uint32_t attributes,
                           uint32_t options);

NTSTATUS NtCreateIoCompletion(HANDLE *port, ACCESS_MASK access,
                              const OBJECT_ATTRIBUTES *attributes,
                              uint32_t count);
NTSTATUS NtSetIoCompletion(HANDLE port, void *key, void *apc_context,
                           NTSTATUS status, uintptr_t information);
NTSTATUS NtRemoveIoCompletion(HANDLE port, void **key, void **apc_context,
                              IO_STATUS_BLOCK *iosb, const int64_t *timeout);
NTSTATUS NtRemoveIoCompletionEx(HANDLE port,
                                FILE_IO_COMPLETION_INFORMATION *entries,
                                uint32_t count, uint32_t *removed,
                                const int64_t *timeout, bool alertable);
NTSTATUS NtQueryIoCompletion(HANDLE port, uint32_t *depth);

NTSTATUS NtCreateEvent(HANDLE *event, ACCESS_MASK access,
                       const OBJECT_ATTRIBUTES *attributes, EVENT_TYPE type,
                       bool state);
NTSTATUS NtSetEvent(HANDLE event, int32_t *previous);        // may be NULL
NTSTATUS NtResetEvent(HANDLE event, int32_t *previous);      // may be NULL
NTSTATUS NtPulseEvent(HANDLE event, int32_t *previous);      // may be NULL
NTSTATUS NtQueryEvent(HANDLE event, EVENT_BASIC_INFORMATION *information);
NTSTATUS NtCreateSemaphore(HANDLE *semaphore, ACCESS_MASK access,
                           const OBJECT_ATTRIBUTES *attributes,
                           int32_t initial, int32_t maximum);
NTSTATUS NtReleaseSemaphore(HANDLE semaphore, int32_t count,
                            int32_t *previous);              // may be NULL
NTSTATUS NtCreateMutant(HANDLE *mutant, ACCESS_MASK access,
                        const OBJECT_ATTRIBUTES *attributes, bool owned);
NTSTATUS NtReleaseMutant(HANDLE mutant, int32_t *previous);  // may be NULL
NTSTATUS NtCreateTimer(HANDLE *timer, ACCESS_MASK access,
                       const OBJECT_ATTRIBUTES *attributes, TIMER_TYPE type);
NTSTATUS NtSetTimer(HANDLE timer, const int64_t *due,
                    TIMER_APC_ROUTINE *apc, void *apc_context, bool resume,
                    int32_t period_ms, bool *previous);      // may be NULL
NTSTATUS NtCancelTimer(HANDLE timer, bool *current);         // may be NULL
NTSTATUS NtWaitForSingleObject(HANDLE handle, bool alertable,
                               const int64_t *timeout);
NTSTATUS NtWaitForMultipleObjects(uint32_t count, const HANDLE *handles,
                                  WAIT_TYPE type, bool alertable,
                                  const int64_t *timeout);
NTSTATUS NtDelayExecution(bool alertable, const int64_t *interval);
NTSTATUS NtYieldExecution(void);

NTSTATUS NtQueueApcThread(HANDLE thread, PS_APC_ROUTINE *routine,
                          void *argument1, void *argument2, void *argument3);
NTSTATUS NtTestAlert(void);
NTSTATUS NtAlertThread(HANDLE thread);
NTSTATUS NtContinue(const CONTEXT *context, bool test_alert);

NTSTATUS NtCreateThreadEx(HANDLE *thread, ACCESS_MASK access,
                          const OBJECT_ATTRIBUTES *attributes, HANDLE process,
                          void *start_routine, void *argument, uint32_t flags,
                          size_t stack_size);
NTSTATUS NtTerminateThread(HANDLE thread, NTSTATUS status);
NTSTATUS NtSuspendThread(HANDLE thread, uint32_t *previous); // may be NULL
NTSTATUS NtResumeThread(HANDLE thread, uint32_t *previous);  // may be NULL
NTSTATUS NtOpenThread(HANDLE *thread, ACCESS_MASK access,
                      const OBJECT_ATTRIBUTES *attributes,
                      const CLIENT_ID *id);
NTSTATUS NtQueryInformationThread(HANDLE thread,
                                  THREADINFOCLASS information_class,
                                  void *buffer, uint32_t length,
                                  uint32_t *returned);       // may be NULL
NTSTATUS NtSetInformationThread(HANDLE thread,
                                THREADINFOCLASS information_class,
                                const void *buffer, uint32_t length);
// Starts a program; thread may be NULL. The three standard handles are given
// to the new process as duplicates.
NTSTATUS NtCreateUserProcess(HANDLE *process, HANDLE *thread,
                             ACCESS_MASK process_access,
                             ACCESS_MASK thread_access, uint32_t thread_flags,
                             const RTL_USER_PROCESS_PARAMETERS *parameters);
NTSTATUS NtOpenProcess(HANDLE *process, ACCESS_MASK access,
                       const OBJECT_ATTRIBUTES *attributes,
                       const CLIENT_ID *id);
NTSTATUS NtTerminateProcess(HANDLE process, NTSTATUS status);
NTSTATUS NtQueryInformationProcess(HANDLE process,
                                   PROCESSINFOCLASS information_class,
                                   void *buffer, uint32_t length,
                                   uint32_t *returned);      // may be NULL

NTSTATUS NtAllocateVirtualMemory(HANDLE process, void **base, size_t *size,
                                 uint32_t type, uint32_t protect);
NTSTATUS NtFreeVirtualMemory(HANDLE process, void **base, size_t *size,
                             uint32_t type);
NTSTATUS NtProtectVirtualMemory(HANDLE process, void **base, size_t *size,
                                uint32_t protect, uint32_t *old);
NTSTATUS NtQueryVirtualMemory(HANDLE process, const void *base,
                              MEMORY_BASIC_INFORMATION *information);

NTSTATUS NtQuerySystemInformation(SYSTEM_INFORMATION_CLASS information_class,
                                  void *buffer, uint32_t length,
                                  uint32_t *returned);       // may be NULL
NTSTATUS NtQueryPerformanceCounter(int64_t *counter,
                                   int64_t *frequency);      // may be NULL
NTSTATUS NtQuerySystemTime(int64_t *time);

// Ours. Sets the calling thread's FS base (thread-local storage).
NTSTATUS nt_set_thread_base(void *base);
// Ours. Replaces the mask of traced events, one bit per TRACE_EVENT, until the
// process ends; 0 asks for the one that the kernel was started with. The old
// mask goes to *old (may be NULL).
NTSTATUS nt_trace_mask(uint32_t mask, uint32_t *old);
// Ours. Copies up to count records of a processor's ring from *position on
// (0: the oldest), moves *position behind the last one, and says how many
// were copied and how many had been overwritten before they could be read.
NTSTATUS nt_trace_read(uint32_t processor, uint64_t *position,
                       TRACE_RECORD *records, uint32_t count,
                       uint32_t *copied, uint32_t *lost);
// Ours. Ends QEMU, or powers off; see the exit codes in the README.
NTSTATUS nt_shutdown(uint32_t code);

#endif
