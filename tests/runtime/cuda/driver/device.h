// The device of libcuda.cpp: its memory, streams and graphs, and what was done wrong with them.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

typedef uint64_t Address;
typedef uint64_t Handle;
enum Status {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201, NO_BINARY = 209, INVALID_HANDLE = 400,
    ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901, CAPTURE_WRONG_THREAD = 908
};
const Handle PRIMARY = 0xC0;
const unsigned NON_BLOCKING = 1;

struct Work {  // kind: in, out, kernel or run
    std::string kind;
    std::function<int()> run;
    std::function<void()> prepare;  // what is seen by whoever does not wait
};
struct Stream {
    unsigned flags = 0;
    std::vector<Work> pending, recorded;
    bool is_recorded = false, is_invalid = false;
    std::thread::id recorder;
};
struct Block {
    std::vector<char> bytes;
    size_t size = 0;
    bool is_alive = true;
};
typedef std::map<Address, Block> Memory;

struct Gpu {
    bool is_plugged = false, refuses_modules = false;
    char name[64] = "";
    int major = 0, minor = 0;
    size_t free_bytes = 0, total_bytes = 0;
    int sticky = OK;
    Memory device, pinned;
    std::map<Handle, Stream> streams;
    std::map<Handle, std::vector<Work>> graphs, executables;
    std::map<Handle, std::string> functions;
    std::map<Handle, int> modules;
    std::map<std::thread::id, int> pushed;
    std::map<std::string, int> failing;
    std::vector<std::string> misuses;
    std::string graph_forgets;
    int launches = 0;
};
std::recursive_mutex mutex;
typedef std::lock_guard<std::recursive_mutex> Lock;
Gpu gpu;
Handle next_handle = 0x1000;
Address next_address = 0x7000000000000000;
std::vector<Memory> outlived;  // arrays of a test that failed may still be read
int (*run_hook)(int) = nullptr;
int (*kernel_hook)(const char *, int, int, int, int, const void *, size_t) = nullptr;

Handle new_handle() { return next_handle += 0x10; }

int misuse(const std::string &text, int status = INVALID_VALUE)
{
    Lock lock(mutex);
    gpu.misuses.push_back(text);
    return status;
}

// What a call answers instead of doing its work: an injected failure, or the error of a dead device.
int enter(const char *name, bool needs_context = true)
{
    Lock lock(mutex);
    const auto failing = gpu.failing.find(name);
    if (failing != gpu.failing.end()) return failing->second;
    if (!gpu.is_plugged) return NO_DEVICE;
    if (needs_context && !gpu.pushed[std::this_thread::get_id()])
        return misuse(std::string(name) + " without a current context on this thread", INVALID_CONTEXT);
    return needs_context ? gpu.sticky : OK;
}
#define ENTER() \
    const int refused = enter(__func__); \
    if (refused) { return refused; } \
    Lock lock(mutex)
#define ENTER_ANYWHERE() \
    const int refused = enter(__func__, false); \
    if (refused) { return refused; } \
    Lock lock(mutex)
// A dead device lets go of what is freed, and answers its error. One that was unplugged has nothing.
#define ENTER_TO_FREE() \
    const int dead = enter(__func__); \
    if (dead == NO_DEVICE) { return OK; } \
    if (dead == INVALID_CONTEXT) { return dead; } \
    Lock lock(mutex)

// The block that holds an address; null, and a misuse, where there is none that is long enough.
Block *block_at(Memory &memory, Address address, size_t size, const char *what)
{
    char text[160];
    auto found = memory.upper_bound(address);
    const bool inside = found != memory.begin() && address < (--found)->first + found->second.size;
    if (!inside)
        snprintf(text, sizeof text, "%#llx is no %s", (unsigned long long)address, what);
    else if (!found->second.is_alive)
        snprintf(text, sizeof text, "use of %s at %#llx after it was freed", what,
                 (unsigned long long)address);
    else if (address + size > found->first + found->second.size)
        snprintf(text, sizeof text, "%zu bytes of %s at %#llx, where %zu were allocated", size, what,
                 (unsigned long long)address, found->second.size);
    else
        return &found->second;
    misuse(text);
    return nullptr;
}

char *on_device(Address address, size_t size)
{
    Block *block = block_at(gpu.device, address, size, "device memory");
    return block ? block->bytes.data() + (address - (--gpu.device.upper_bound(address))->first) : nullptr;
}

bool is_pinned(const void *host)
{
    auto found = gpu.pinned.upper_bound((Address)host);
    return found != gpu.pinned.begin() && (Address)host < (--found)->first + found->second.size;
}

// Whether this thread records a stream: then it may neither allocate nor wait, and the record is lost.
bool is_recording()
{
    bool found = false;
    for (auto &entry : gpu.streams)
        if (entry.second.is_recorded && entry.second.recorder == std::this_thread::get_id())
            found = entry.second.is_invalid = true;
    return found;
}

int add(Handle handle, const Work &work)
{
    Lock lock(mutex);
    auto found = gpu.streams.find(handle);
    if (found == gpu.streams.end())
        return misuse("work for a stream that is none, or was freed", INVALID_HANDLE);
    if (found->second.is_recorded) {
        found->second.recorded.push_back(work);
        return OK;
    }
    if (work.prepare) work.prepare();
    found->second.pending.push_back(work);
    return OK;
}

// Do what lies in a stream, without the lock: the work may be Python's.
int finish(Handle handle)
{
    std::vector<Work> work;
    {
        Lock lock(mutex);
        work.swap(gpu.streams[handle].pending);
        if (gpu.sticky) return gpu.sticky;
    }
    for (auto &one : work) {
        const int status = one.run();
        if (status) {
            Lock lock(mutex);
            return gpu.sticky = status;
        }
    }
    return OK;
}

int finish_all()
{
    std::vector<Handle> handles;
    {
        Lock lock(mutex);
        for (auto &entry : gpu.streams) handles.push_back(entry.first);
    }
    for (Handle handle : handles)
        if (const int status = finish(handle)) return status;
    return OK;
}

int copy(Address device, void *host, size_t size, bool is_in)
{
    Lock lock(mutex);
    char *there = on_device(device, size);
    if (!there || (is_pinned(host) && !block_at(gpu.pinned, (Address)host, size, "pinned memory")))
        return ILLEGAL_ADDRESS;
    is_in ? memcpy(there, host, size) : memcpy(host, there, size);
    return OK;
}

int copy_async(Address device, void *host, size_t size, bool is_in, Handle stream)
{
    if (!is_pinned(host)) return misuse("asynchronous copy of memory that is not pinned");
    if (!on_device(device, size) || !block_at(gpu.pinned, (Address)host, size, "pinned memory"))
        return INVALID_VALUE;
    Work work{is_in ? "in" : "out", [=] { return copy(device, host, size, is_in); }, nullptr};
    if (!is_in) work.prepare = [=] { memset(host, 0xFF, size); };  // NaN
    return add(stream, work);
}

int release(Memory &memory, Address address, const char *what)
{
    auto found = memory.find(address);
    if (found == memory.end()) return misuse(std::string("freed what is no ") + what);
    if (!found->second.is_alive) return misuse(std::string(what) + " freed twice");
    found->second.is_alive = false;
    return OK;
}

}  // namespace
