// A CUDA driver whose device is the CPU, strict where a GPU is lazy or silent.
//
// Work lies in its stream until somebody waits for it. What would read freed memory, race with a
// copy or run in the wrong context is noted as a misuse, and what is left at the end is counted.
// Addresses on the device are none of the host and never used twice. The functions cu* are those of
// the CUDA driver that pycuda and edgedetr call; the functions fake_* are for the tests.
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
#define ENTER() if (const int refused = enter(__func__)) return refused; Lock lock(mutex)
#define ENTER_ANYWHERE() if (const int refused = enter(__func__, false)) return refused; Lock lock(mutex)

// The block that holds an address; null, and a misuse, where there is none that is long enough.
Block *block_at(Memory &memory, Address address, size_t size, const char *what)
{
    char text[160];
    auto found = memory.upper_bound(address);
    const bool inside = found != memory.begin() && address < (--found)->first + found->second.size;
    if (!inside)
        snprintf(text, sizeof text, "%#llx is no %s", (unsigned long long)address, what);
    else if (!found->second.is_alive)
        snprintf(text, sizeof text, "use of %s at %#llx after it was freed", what, (unsigned long long)address);
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
    if (found == gpu.streams.end()) return misuse("work for a stream that is none, or was freed", INVALID_HANDLE);
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

extern "C" {

int cuInit(unsigned)
{
    ENTER_ANYWHERE();
    return gpu.sticky ? NO_DEVICE : OK;
}
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuGetErrorString(int status, const char **text)
{
    static const std::map<int, const char *> texts = {
        {OK, "no error"},
        {INVALID_VALUE, "invalid argument"},
        {OUT_OF_MEMORY, "out of memory"},
        {NO_DEVICE, "no CUDA-capable device is detected"},
        {INVALID_DEVICE, "invalid device ordinal"},
        {INVALID_CONTEXT, "invalid device context"},
        {NO_BINARY, "no kernel image is available for execution on the device"},
        {INVALID_HANDLE, "invalid resource handle"},
        {ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
        {LAUNCH_FAILED, "unspecified launch failure"},
        {NOT_SUPPORTED, "operation not supported"},
        {CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
        {CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"},
    };
    const auto found = texts.find(status);
    *text = found == texts.end() ? "unrecognized error code" : found->second;
    return found == texts.end() ? INVALID_VALUE : OK;
}
int cuDeviceGetCount(int *count) { ENTER_ANYWHERE(); *count = 1; return OK; }
int cuDeviceGet(int *device, int ordinal)
{
    ENTER_ANYWHERE();
    *device = 0;
    return ordinal ? INVALID_DEVICE : OK;
}
int cuDeviceGetName(char *name, int size, int) { ENTER_ANYWHERE(); snprintf(name, size, "%s", gpu.name); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int)
{
    ENTER_ANYWHERE();
    *value = attribute == 75 ? gpu.major : attribute == 76 ? gpu.minor : 0;
    return OK;
}
int cuDeviceComputeCapability(int *major, int *minor, int)
{
    ENTER_ANYWHERE();
    *major = gpu.major, *minor = gpu.minor;
    return OK;
}
int cuDevicePrimaryCtxRetain(Handle *context, int) { ENTER_ANYWHERE(); *context = PRIMARY; return OK; }
int cuCtxDetach(Handle) { return misuse("cuCtxDetach of the primary context", INVALID_CONTEXT); }
int cuCtxPushCurrent_v2(Handle context)
{
    ENTER_ANYWHERE();
    if (context != PRIMARY) return INVALID_CONTEXT;
    ++gpu.pushed[std::this_thread::get_id()];
    return OK;
}
int cuCtxPopCurrent_v2(Handle *context)
{
    ENTER_ANYWHERE();
    int &depth = gpu.pushed[std::this_thread::get_id()];
    if (!depth) return misuse("pop without a push on this thread", INVALID_CONTEXT);
    --depth;
    if (context) *context = PRIMARY;
    return OK;
}
int cuCtxGetDevice(int *device) { ENTER(); *device = 0; return OK; }
int cuCtxSynchronize()
{
    if (const int refused = enter(__func__)) return refused;
    return finish_all();
}

int cuMemAlloc_v2(Address *address, size_t size)
{
    ENTER();
    if (is_recording()) return CAPTURE_UNSUPPORTED;
    if (size > gpu.free_bytes) return OUT_OF_MEMORY;
    gpu.free_bytes -= size;
    *address = next_address;
    next_address += size + 0x1000;
    gpu.device[*address].bytes.assign(size, (char)0xFF);
    gpu.device[*address].size = size;
    return OK;
}
int cuMemFree_v2(Address address)
{
    const int dead = enter(__func__);
    Lock lock(mutex);
    if (dead == INVALID_CONTEXT) return dead;
    if (const int status = release(gpu.device, address, "device memory")) return status;
    gpu.free_bytes += gpu.device[address].size;
    std::vector<char>().swap(gpu.device[address].bytes);
    return dead;
}
int cuMemHostAlloc(void **host, size_t size, unsigned)
{
    ENTER();
    if (is_recording()) return CAPTURE_UNSUPPORTED;
    Block block;
    block.bytes.assign(size, (char)0xFF);
    block.size = size;
    *host = block.bytes.data();
    gpu.pinned[(Address)*host] = std::move(block);
    return OK;
}
int cuMemAllocHost_v2(void **host, size_t size) { return cuMemHostAlloc(host, size, 0); }
int cuMemFreeHost(void *host)
{
    const int dead = enter(__func__);
    Lock lock(mutex);
    if (dead == INVALID_CONTEXT) return dead;
    const int status = release(gpu.pinned, (Address)host, "pinned memory");
    return status ? status : dead;  // its bytes are kept, so that no other array lies there
}
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
    ENTER();
    *free_bytes = gpu.free_bytes, *total_bytes = gpu.total_bytes;
    return OK;
}
int cuMemcpyHtoDAsync_v2(Address device, const void *host, size_t size, Handle stream)
{
    ENTER();
    return copy_async(device, (void *)host, size, true, stream);
}
int cuMemcpyDtoHAsync_v2(void *host, Address device, size_t size, Handle stream)
{
    ENTER();
    return copy_async(device, host, size, false, stream);
}
// Pageable memory is staged at once, and arrives when somebody waits for the default stream: a stream
// that is non-blocking does not.
int cuMemcpyHtoD_v2(Address device, const void *host, size_t size)
{
    ENTER();
    if (is_recording()) return CAPTURE_UNSUPPORTED;
    if (!on_device(device, size)) return INVALID_VALUE;
    if (is_pinned(host)) return copy(device, (void *)host, size, true);
    std::string staged((const char *)host, size);
    return add(0, {"in", [=] { return copy(device, (void *)staged.data(), size, true); }, nullptr});
}
int cuMemcpyDtoH_v2(void *host, Address device, size_t size)
{
    if (const int refused = enter(__func__)) return refused;
    if (is_recording()) return CAPTURE_UNSUPPORTED;
    const int status = finish(0);
    return status ? status : copy(device, host, size, false);
}

int cuStreamCreate(Handle *stream, unsigned flags)
{
    ENTER();
    gpu.streams[*stream = new_handle()].flags = flags;
    return OK;
}
int cuStreamDestroy_v2(Handle stream)
{
    const int dead = enter(__func__);
    Lock lock(mutex);
    if (dead == INVALID_CONTEXT) return dead;
    if (!gpu.streams.count(stream)) return misuse("a stream freed twice", INVALID_HANDLE);
    if (!gpu.streams[stream].pending.empty()) misuse("a stream was dropped with work in it");
    gpu.streams.erase(stream);
    return dead;
}
int cuStreamSynchronize(Handle stream)
{
    if (const int refused = enter(__func__)) return refused;
    {
        Lock lock(mutex);
        if (!gpu.streams.count(stream)) return misuse("wait for a stream that was freed", INVALID_HANDLE);
        if (gpu.streams[stream].is_recorded) {
            gpu.streams[stream].is_invalid = true;
            return CAPTURE_UNSUPPORTED;
        }
    }
    if (stream && !(gpu.streams[stream].flags & NON_BLOCKING))
        if (const int status = finish(0)) return status;
    return finish(stream);
}
int cuStreamBeginCapture_v2(Handle stream, int mode)
{
    ENTER();
    if (mode != 1 || !gpu.streams.count(stream) || !stream) return NOT_SUPPORTED;
    Stream &found = gpu.streams[stream];
    found.recorded.clear();
    found.is_recorded = true, found.is_invalid = false;
    found.recorder = std::this_thread::get_id();
    return OK;
}
int cuStreamEndCapture(Handle stream, Handle *graph)
{
    ENTER();
    Stream &found = gpu.streams[stream];
    *graph = 0;
    if (!found.is_recorded) return INVALID_VALUE;
    if (found.recorder != std::this_thread::get_id()) return CAPTURE_WRONG_THREAD;
    found.is_recorded = false;
    if (found.is_invalid) return CAPTURE_INVALIDATED;
    gpu.graphs[*graph = new_handle()] = found.recorded;
    return OK;
}
int cuGraphInstantiateWithFlags(Handle *executable, Handle graph, unsigned long long)
{
    ENTER();
    if (!gpu.graphs.count(graph)) return misuse("a graph made ready after it was freed");
    gpu.executables[*executable = new_handle()] = gpu.graphs[graph];
    return OK;
}
int cuGraphLaunch(Handle executable, Handle stream)
{
    ENTER();
    if (!gpu.executables.count(executable)) return misuse("launch of a graph that was freed");
    ++gpu.launches;
    for (const Work &work : gpu.executables[executable])
        if (work.kind != gpu.graph_forgets)
            if (const int status = add(stream, work)) return status;
    return OK;
}
int cuGraphDestroy(Handle graph) { ENTER(); return gpu.graphs.erase(graph) ? OK : misuse("a graph freed twice"); }
int cuGraphExecDestroy(Handle executable)
{
    const int dead = enter(__func__);
    Lock lock(mutex);
    if (!gpu.executables.erase(executable)) return misuse("a graph freed twice");
    return dead;
}

int cuModuleLoadDataEx(Handle *module, const void *, unsigned, void *, void *)
{
    ENTER();
    if (gpu.refuses_modules) return NO_BINARY;
    gpu.modules[*module = new_handle()] = 1;
    return OK;
}
int cuModuleUnload(Handle module)
{
    const int dead = enter(__func__);
    Lock lock(mutex);
    if (dead == INVALID_CONTEXT) return dead;
    return gpu.modules.erase(module) ? dead : misuse("a module unloaded twice");
}
int cuModuleGetFunction(Handle *function, Handle module, const char *name)
{
    ENTER();
    if (!gpu.modules.count(module)) return misuse("a function of a module that was unloaded");
    gpu.functions[*function = new_handle()] = name;
    return OK;
}
int cuFuncSetBlockShape(Handle, int, int, int) { ENTER(); return OK; }
int cuLaunchKernel(Handle function, unsigned grid_x, unsigned grid_y, unsigned, unsigned block_x,
    unsigned block_y, unsigned, unsigned, Handle stream, void **, void **extra)
{
    ENTER();
    const char *data = nullptr;
    size_t size = 0;
    for (void **item = extra; item && *item; item += 2) {
        if (*item == (void *)1) data = (const char *)item[1];
        if (*item == (void *)2) size = *(size_t *)item[1];
    }
    const std::string arguments(data ? data : "", data ? size : 0), name = gpu.functions[function];
    return add(stream, {"kernel", [=] {
        return kernel_hook(name.c_str(), grid_x, grid_y, block_x, block_y, arguments.data(), arguments.size());
    }, nullptr});
}

void fake_plug(const char *name, int major, int minor, size_t memory)
{
    Lock lock(mutex);
    gpu = Gpu();
    gpu.is_plugged = true;
    snprintf(gpu.name, sizeof gpu.name, "%s", name);
    gpu.major = major, gpu.minor = minor;
    gpu.free_bytes = gpu.total_bytes = memory;
    gpu.streams[0];
}
void fake_unplug() { Lock lock(mutex); gpu = Gpu(); }
void fake_hooks(int (*run)(int), int (*kernel)(const char *, int, int, int, int, const void *, size_t))
{
    run_hook = run, kernel_hook = kernel;
}
void fake_fail(const char *function, int status)
{
    Lock lock(mutex);
    if (status) gpu.failing[function] = status; else gpu.failing.erase(function);
}
void fake_lose(int status) { Lock lock(mutex); gpu.sticky = status; }
void fake_set_capability(int major, int minor) { gpu.major = major, gpu.minor = minor; }
void fake_refuse_modules(int refuses) { gpu.refuses_modules = refuses; }
void fake_graphs_forget(const char *kind) { gpu.graph_forgets = kind; }
int fake_launches() { return gpu.launches; }
size_t fake_free_bytes() { return gpu.free_bytes; }
void fake_set_free_bytes(size_t bytes) { gpu.free_bytes = bytes; }
int fake_pushed() { Lock lock(mutex); return gpu.pushed[std::this_thread::get_id()]; }
void *fake_host(Address address, size_t size) { Lock lock(mutex); return on_device(address, size); }
void fake_misuse(const char *text) { misuse(text); }
// 0: no stream, 1: a stream, 2: one that is recorded
int fake_stream(Handle stream)
{
    Lock lock(mutex);
    return !gpu.streams.count(stream) ? 0 : gpu.streams[stream].is_recorded ? 2 : 1;
}
void fake_invalidate(Handle stream) { Lock lock(mutex); gpu.streams[stream].is_invalid = true; }
int fake_enqueue(Handle stream, int work) { return add(stream, {"run", [=] { return run_hook(work); }, nullptr}); }
size_t fake_misuses(char *text, size_t size)
{
    Lock lock(mutex);
    std::string all;
    for (const auto &one : gpu.misuses) all += one + "\n";
    snprintf(text, size, "%s", all.c_str());
    return all.size();
}
// How much is left of: blocks on the device, pinned bytes, streams, graphs, modules, pushed contexts.
void fake_left(size_t *left)
{
    Lock lock(mutex);
    memset(left, 0, 6 * sizeof *left);
    for (auto &entry : gpu.device) left[0] += entry.second.is_alive;
    for (auto &entry : gpu.pinned) left[1] += entry.second.is_alive ? entry.second.size : 0;
    left[2] = gpu.streams.size() - 1;
    left[3] = gpu.graphs.size() + gpu.executables.size();
    left[4] = gpu.modules.size();
    for (auto &entry : gpu.pushed) left[5] += entry.second;
}

}  // extern "C"
