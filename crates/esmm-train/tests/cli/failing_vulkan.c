/* A stand-in for Vulkan's loader (libvulkan.so.1): it hands everything on to the real one, named by ESMM_TEST_VULKAN, but
 *
 * after ESMM_TEST_SUBMISSIONS submissions every further one says that the device is lost, as a driver does whose GPU has
 * gone;
 * after ESMM_TEST_ALLOCATIONS buffers and pieces of memory every further one is refused, as of a card whose memory others
 * have taken.
 *
 * A number that is not set is never reached. Vulkan's functions are found by name, so that no header is needed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VK_ERROR_OUT_OF_DEVICE_MEMORY (-2)
#define VK_ERROR_DEVICE_LOST (-4)

typedef void (*Function)(void);
typedef Function (*Lookup)(void *object, const char *name);
typedef int32_t (*Submit)(void *queue, uint32_t count, const void *submissions, uint64_t fence);
/* vkAllocateMemory and vkCreateBuffer. */
typedef int32_t (*Allocate)(void *device, const void *wanted, const void *callbacks, uint64_t *found);

static Lookup real_instance_lookup, real_device_lookup;
static Submit real_submit;
static Allocate real_memory, real_buffer;
static long submissions_left, allocations_left;

static int is_over(long *left) {
    return __sync_sub_and_fetch(left, 1) < 0;
}

static int32_t submit(void *queue, uint32_t count, const void *submissions, uint64_t fence) {
    if (is_over(&submissions_left))
        return VK_ERROR_DEVICE_LOST;
    return real_submit(queue, count, submissions, fence);
}

static int32_t memory(void *device, const void *wanted, const void *callbacks, uint64_t *found) {
    if (is_over(&allocations_left))
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    return real_memory(device, wanted, callbacks, found);
}

static int32_t buffer(void *device, const void *wanted, const void *callbacks, uint64_t *found) {
    if (is_over(&allocations_left))
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    return real_buffer(device, wanted, callbacks, found);
}

static Function replaced(const char *name, Function found) {
    if (found == NULL)
        return found;
    if (strcmp(name, "vkQueueSubmit") == 0) {
        real_submit = (Submit)found;
        return (Function)submit;
    }
    if (strcmp(name, "vkAllocateMemory") == 0) {
        real_memory = (Allocate)found;
        return (Function)memory;
    }
    if (strcmp(name, "vkCreateBuffer") == 0) {
        real_buffer = (Allocate)found;
        return (Function)buffer;
    }
    return found;
}

static Function device_lookup(void *device, const char *name) {
    return replaced(name, real_device_lookup(device, name));
}

static long number(const char *variable) {
    const char *text = getenv(variable);
    return text == NULL ? LONG_MAX : atol(text);
}

__attribute__((constructor)) static void start(void) {
    void *real = dlopen(getenv("ESMM_TEST_VULKAN"), RTLD_NOW | RTLD_LOCAL);
    if (real == NULL)
        abort();
    real_instance_lookup = (Lookup)dlsym(real, "vkGetInstanceProcAddr");
    submissions_left = number("ESMM_TEST_SUBMISSIONS");
    allocations_left = number("ESMM_TEST_ALLOCATIONS");
}

Function vkGetInstanceProcAddr(void *instance, const char *name) {
    Function found = real_instance_lookup(instance, name);
    if (strcmp(name, "vkGetInstanceProcAddr") == 0)
        return (Function)vkGetInstanceProcAddr;
    if (found != NULL && strcmp(name, "vkGetDeviceProcAddr") == 0) {
        real_device_lookup = (Lookup)found;
        return (Function)device_lookup;
    }
    return replaced(name, found);
}
