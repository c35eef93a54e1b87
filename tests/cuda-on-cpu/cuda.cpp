// A libcuda without a card: memory is the host's, a stream has done its work when the call returns, and the threads of a
// block are fibers that take turns. What it knows of is what CubeCL 0.10 calls.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>
#include <sys/mman.h>

typedef int Result;
typedef uint64_t Pointer;
struct Index { unsigned x, y, z; };

// What a kernel calls: the order of fake_api_t in include/cuda_runtime.h.
struct Api {
    void (*sync_block)();
    void (*sync_warp)();
    void* (*warp_slots)();
    unsigned (*lane)();
    unsigned (*alive)();
};

struct Kernel {
    std::string name;
    void (*entry)(void**);
    Index *thread, *block, *block_dim, *grid_dim;
    uint8_t* shared;
    bool has_barriers;
};

static std::mutex mutex;
static Kernel* running;
static void** parameters;

static const size_t STACK = 256 << 10;
static const unsigned MOST_THREADS = 1024;
struct Fiber { void* stack_pointer; bool done; };
static Fiber fibers[MOST_THREADS];
static char* stacks;
static void* scheduler;
static unsigned current;
static bool progress;

struct Barrier {
    unsigned arrived, alive, generation;
    void release() { arrived = 0; generation++; }
    void leave() { if (--alive && arrived == alive) release(); }
    void wait();
};
static Barrier of_block, of_warp[MOST_THREADS / 32];
static unsigned lanes_alive[MOST_THREADS / 32];
alignas(16) static char slots[MOST_THREADS / 32][32 * 16];

// Keeps what a call must keep and goes on with the other stack.
extern "C" void fake_switch(void** save, void* to);
asm(R"(.text
.globl fake_switch
fake_switch:
 push %rbp
 push %rbx
 push %r12
 push %r13
 push %r14
 push %r15
 mov %rsp, (%rdi)
 mov %rsi, %rsp
 pop %r15
 pop %r14
 pop %r13
 pop %r12
 pop %rbx
 pop %rbp
 ret
)");

static void give_way() { fake_switch(&fibers[current].stack_pointer, scheduler); }

void Barrier::wait() {
    unsigned waited_for = generation;
    progress = true;
    if (++arrived == alive) release();
    while (generation == waited_for) give_way();
    progress = true;
}

static void sync_block() { of_block.wait(); }
static void sync_warp() { of_warp[current / 32].wait(); }
static void* warp_slots() { return slots[current / 32]; }
static unsigned lane() { return current % 32; }
static unsigned alive() { return lanes_alive[current / 32]; }
static Api api = { sync_block, sync_warp, warp_slots, lane, alive };

static void fiber_main() {
    running->entry(parameters);
    fibers[current].done = progress = true;
    lanes_alive[current / 32] &= ~(1u << current % 32);
    of_block.leave();
    of_warp[current / 32].leave();
    give_way();
    abort();
}

static void run_block(Kernel* kernel, Index dim) {
    unsigned threads = dim.x * dim.y * dim.z;
    // Odd blocks run their threads backwards: a missing barrier shows in one of the two orders.
    bool backwards = (kernel->block->x + kernel->block->y + kernel->block->z) % 2;
    of_block = { 0, threads, 0 };
    for (unsigned warp = 0; warp * 32 < threads; warp++) {
        unsigned lanes = threads - warp * 32 < 32 ? threads - warp * 32 : 32;
        of_warp[warp] = { 0, lanes, 0 };
        lanes_alive[warp] = lanes == 32 ? ~0u : (1u << lanes) - 1;
    }
    for (unsigned thread = 0; thread < threads; thread++) {
        // As a call leaves a stack: the address to go on at, below it six registers.
        uint64_t* top = (uint64_t*)(stacks + (thread + 1) * STACK - 64);
        *--top = 0;
        *--top = (uint64_t)fiber_main;
        for (int saved = 0; saved < 6; saved++) *--top = 0;
        fibers[thread] = { top, false };
    }
    for (unsigned left = threads; left;) {
        progress = false;
        for (unsigned turn = 0; turn < threads; turn++) {
            current = backwards ? threads - 1 - turn : turn;
            if (fibers[current].done) continue;
            *kernel->thread = { current % dim.x, current / dim.x % dim.y, current / (dim.x * dim.y) };
            fake_switch(&scheduler, fibers[current].stack_pointer);
            if (fibers[current].done) left--;
        }
        if (left && !progress) {
            fprintf(stderr, "a block of %s waits for ever at a barrier\n", kernel->name.c_str());
            abort();
        }
    }
}

// Anonymous memory is 0; this is NaN, so that what was never written shows. Very large buffers stay untouched.
static const size_t POISONED = 64 << 20;
static std::map<Pointer, size_t> buffers;

static size_t total_memory() { return (size_t)16 << 30; }

// Kernels but the first are neither compiled nor run, so that what is left of a step is the host's part of it: fresh memory
// is 0 then.
static bool skips_kernels() {
    static const char* kernels = getenv("FAKE_CUDA_KERNELS");
    return kernels && !strcmp(kernels, "skip");
}

extern "C" {
Result cuInit(unsigned) { return 0; }
Result cuDriverGetVersion(int* version) { *version = 12080; return 0; }
Result cuDeviceGet(int* device, int index) { *device = 0; return index ? 101 : 0; }
Result cuDeviceGetCount(int* count) { *count = 1; return 0; }
Result cuDeviceGetName(char* name, int length, int) { snprintf(name, length, "no card: this processor"); return 0; }
Result cuDeviceGetUuid(char* id, int) { memset(id, 7, 16); return 0; }
Result cuDeviceGetUuid_v2(char* id, int) { memset(id, 7, 16); return 0; }
Result cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = total_memory(); return 0; }
Result cuMemGetInfo_v2(size_t* available, size_t* total) { *available = *total = total_memory(); return 0; }

// Those of an H100.
Result cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;         // threads of a block
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break;                   // blocks
    case 6: case 7: *value = 65535; break;
    case 8: *value = 49152; break;                        // shared memory
    case 10: *value = 32; break;                          // lanes
    case 16: *value = 132; break;                         // multiprocessors
    case 75: *value = 9; break;                           // compute capability
    case 76: *value = 0; break;
    case 81: *value = 233472; break;
    case 97: *value = 232448; break;
    default: *value = 1;
    }
    return 0;
}

Result cuDevicePrimaryCtxRetain(void** context, int) { *context = (void*)16; return 0; }
Result cuDevicePrimaryCtxRelease_v2(int) { return 0; }
Result cuCtxSetCurrent(void*) { return 0; }
Result cuCtxGetCurrent(void** context) { *context = (void*)16; return 0; }
Result cuCtxSynchronize() { return 0; }

Result cuMemAlloc_v2(Pointer* pointer, size_t bytes) {
    std::lock_guard<std::mutex> guard(mutex);
    size_t room = (bytes + 8191) & ~(size_t)4095;
    void* memory = mmap(0, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return 2;
    if (bytes <= POISONED && !skips_kernels()) memset(memory, 0xff, bytes);
    *pointer = (Pointer)memory;
    buffers[*pointer] = room;
    return 0;
}
Result cuMemFree_v2(Pointer pointer) {
    std::lock_guard<std::mutex> guard(mutex);
    munmap((void*)pointer, buffers[pointer]);
    buffers.erase(pointer);
    return 0;
}
Result cuMemAllocAsync(Pointer* pointer, size_t bytes, void*) { return cuMemAlloc_v2(pointer, bytes); }
Result cuMemFreeAsync(Pointer pointer, void*) { return cuMemFree_v2(pointer); }
Result cuMemAllocHost_v2(void** pointer, size_t bytes) { return cuMemAlloc_v2((Pointer*)pointer, bytes); }
Result cuMemFreeHost(void* pointer) { return cuMemFree_v2((Pointer)pointer); }

Result cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void*) {
    std::lock_guard<std::mutex> guard(mutex);
    memcpy((void*)to, from, bytes);
    return 0;
}
Result cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void*) {
    std::lock_guard<std::mutex> guard(mutex);
    memcpy(to, (void*)from, bytes);
    return 0;
}
Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void*) {
    std::lock_guard<std::mutex> guard(mutex);
    memmove((void*)to, (void*)from, bytes);
    return 0;
}
struct Place { size_t x, y; int kind; void* host; Pointer device; void* array; size_t pitch; };
struct Copy { Place from, to; size_t width, height; };
Result cuMemcpy2DAsync_v2(const Copy* copy, void*) {
    std::lock_guard<std::mutex> guard(mutex);
    auto line = [](const Place& place, size_t row) {
        char* start = place.kind == 1 ? (char*)place.host : (char*)place.device;
        return start + (row + place.y) * place.pitch + place.x;
    };
    for (size_t row = 0; row < copy->height; row++) memcpy(line(copy->to, row), line(copy->from, row), copy->width);
    return 0;
}

Result cuStreamCreate(void** stream, unsigned) { static std::atomic<uint64_t> next{32}; *stream = (void*)next++; return 0; }
Result cuStreamSynchronize(void*) { return 0; }
Result cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
Result cuStreamDestroy_v2(void*) { return 0; }
Result cuEventCreate(void** event, unsigned) { *event = (void*)48; return 0; }
Result cuEventRecord(void*, void*) { return 0; }
Result cuEventSynchronize(void*) { return 0; }
Result cuEventQuery(void*) { return 0; }
Result cuEventDestroy_v2(void*) { return 0; }
Result cuGetErrorName(int, const char** name) { *name = "error of a card that is not there"; return 0; }
Result cuGetErrorString(int, const char** text) { *text = "error of a card that is not there"; return 0; }

// The image is the path of a shared object: see nvrtc.cpp.
Result cuModuleLoadData(void** module, const void* image) {
    // What was not compiled has no path.
    if (!*(const char*)image) { *module = nullptr; return 0; }
    *module = dlopen((const char*)image, RTLD_NOW | RTLD_LOCAL);
    if (*module) return 0;
    fprintf(stderr, "%s\n", dlerror());
    return 200;
}
Result cuModuleUnload(void*) { return 0; }
Result cuModuleGetFunction(void** function, void* module, const char* name) {
    if (!module) { *function = nullptr; return 0; }
    auto symbol = [&](const char* symbol) { return dlsym(module, symbol); };
    void* shared = symbol("fake_shared");
    *(Api**)symbol("fake_api") = &api;
    *function = new Kernel {
        name, (void (*)(void**))symbol("fake_entry"), (Index*)symbol("fake_thread"), (Index*)symbol("fake_block"),
        (Index*)symbol("fake_block_dim"), (Index*)symbol("fake_grid_dim"), shared ? *(uint8_t**)shared : nullptr,
        *(bool*)symbol("fake_has_barriers"),
    };
    return 0;
}
Result cuFuncSetAttribute(void*, int, int) { return 0; }

Result cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned dim_x, unsigned dim_y, unsigned dim_z,
                      unsigned shared, void*, void** arguments, void**) {
    std::lock_guard<std::mutex> guard(mutex);
    Kernel* kernel = (Kernel*)function;
    bool empty = !x || !y || !z || !dim_x || !dim_y || !dim_z;
    if (empty || y > 65535 || z > 65535 || dim_x * dim_y * dim_z > MOST_THREADS || shared > 232448) return 1;
    if (!kernel) return 0;
    if (!stacks) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        stacks = (char*)mmap(0, STACK * MOST_THREADS, PROT_READ | PROT_WRITE, flags, -1, 0);
    }
    running = kernel;
    parameters = arguments;
    *kernel->grid_dim = { x, y, z };
    *kernel->block_dim = { dim_x, dim_y, dim_z };
    for (unsigned cube = 0; cube < x * y * z; cube++) {
        *kernel->block = { cube % x, cube / x % y, cube / x / y };
        if (shared) memset(kernel->shared, 0xff, shared);
        if (kernel->has_barriers) {
            run_block(kernel, { dim_x, dim_y, dim_z });
            continue;
        }
        for (unsigned thread = 0; thread < dim_x * dim_y * dim_z; thread++) {
            *kernel->thread = { thread % dim_x, thread / dim_x % dim_y, thread / dim_x / dim_y };
            kernel->entry(arguments);
        }
    }
    return 0;
}
}
