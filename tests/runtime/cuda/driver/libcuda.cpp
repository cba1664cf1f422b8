// A CUDA driver whose device is the CPU, strict where a GPU is lazy or silent.
//
// Work lies in its stream until somebody waits for it. What would read freed memory, race with a
// copy or run in the wrong context is noted as a misuse, and what is left at the end is counted.
// Addresses on the device are none of the host and never used twice. The functions cu* are those of
// the CUDA driver that pycuda and edgedetr call; the functions fake_* are for the tests.
#include "device.h"
#include "controls.h"

extern "C" {

int cuInit(unsigned)
{
    ENTER_ANYWHERE();
    return gpu.sticky ? NO_DEVICE : OK;
}
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
// NVRTC asks for a table and goes on without.
int cuGetExportTable(const void **table, const void *)
{
    *table = nullptr;
    return NOT_SUPPORTED;
}
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
int cuDeviceGetName(char *name, int size, int)
{
    ENTER_ANYWHERE();
    snprintf(name, size, "%s", gpu.name);
    return OK;
}
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
    Lock lock(mutex);
    if (context != PRIMARY) return INVALID_CONTEXT;
    ++gpu.pushed[std::this_thread::get_id()];
    return OK;
}
int cuCtxPopCurrent_v2(Handle *context)
{
    Lock lock(mutex);
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
    ENTER_TO_FREE();
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
    ENTER_TO_FREE();
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
    ENTER_TO_FREE();
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
int cuGraphDestroy(Handle graph)
{
    ENTER_TO_FREE();
    return gpu.graphs.erase(graph) ? dead : misuse("a graph freed twice");
}
int cuGraphExecDestroy(Handle executable)
{
    ENTER_TO_FREE();
    if (!gpu.executables.erase(executable)) return misuse("a graph freed twice");
    return dead;
}

const unsigned INFO_LOG = 3, ERROR_LOG = 5;  // CU_JIT_..._LOG_BUFFER; the next is its size
int cuModuleLoadDataEx(
    Handle *module, const void *, unsigned count, const unsigned *options, void **values)
{
    ENTER();
    for (unsigned i = 0; i < count; ++i) {  // logs are empty, and their sizes 0
        if (options[i] == INFO_LOG || options[i] == ERROR_LOG) *static_cast<char *>(values[i]) = 0;
        if (options[i] == INFO_LOG + 1 || options[i] == ERROR_LOG + 1) values[i] = nullptr;
    }
    if (gpu.refuses_modules) return NO_BINARY;
    gpu.modules[*module = new_handle()] = 1;
    return OK;
}
int cuModuleUnload(Handle module)
{
    ENTER_TO_FREE();
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
        return kernel_hook(name.c_str(), grid_x, grid_y, block_x, block_y, arguments.data(),
                           arguments.size());
    }, nullptr});
}

}  // extern "C"
