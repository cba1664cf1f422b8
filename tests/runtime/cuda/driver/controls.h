// What the tests do to the device of libcuda.cpp, and ask it.
#pragma once
#include "device.h"

extern "C" {

void fake_unplug()
{
    Lock lock(mutex);
    outlived.push_back(std::move(gpu.pinned));
    gpu = Gpu();
}
void fake_plug(const char *name, int major, int minor, size_t memory)
{
    Lock lock(mutex);
    fake_unplug();
    gpu.is_plugged = true;
    snprintf(gpu.name, sizeof gpu.name, "%s", name);
    gpu.major = major, gpu.minor = minor;
    gpu.free_bytes = gpu.total_bytes = memory;
    gpu.streams[0];
}
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
int fake_enqueue(Handle stream, int work)
{
    return add(stream, {"run", [=] { return run_hook(work); }, nullptr});
}
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
