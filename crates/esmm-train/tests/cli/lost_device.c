/* A stand-in for Vulkan's loader (libvulkan.so.1): it hands everything on to the real one, named by ESMM_TEST_VULKAN, and
 * after ESMM_TEST_SUBMISSIONS submissions every further one says that the device is lost, as a driver does whose GPU has
 * gone. Vulkan's functions are found by name, so that no header is needed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VK_ERROR_DEVICE_LOST (-4)

typedef void (*Function)(void);
typedef Function (*Lookup)(void *object, const char *name);
typedef int32_t (*Submit)(void *queue, uint32_t count, const void *submissions, uint64_t fence);

static Lookup real_instance_lookup, real_device_lookup;
static Submit real_submit;
static long submissions_left;

static int32_t submit(void *queue, uint32_t count, const void *submissions, uint64_t fence) {
    if (__sync_sub_and_fetch(&submissions_left, 1) < 0)
        return VK_ERROR_DEVICE_LOST;
    return real_submit(queue, count, submissions, fence);
}

static Function replaced(const char *name, Function found) {
    if (found != NULL && strcmp(name, "vkQueueSubmit") == 0) {
        real_submit = (Submit)found;
        return (Function)submit;
    }
    return found;
}

static Function device_lookup(void *device, const char *name) {
    return replaced(name, real_device_lookup(device, name));
}

__attribute__((constructor)) static void start(void) {
    void *real = dlopen(getenv("ESMM_TEST_VULKAN"), RTLD_NOW | RTLD_LOCAL);
    if (real == NULL)
        abort();
    real_instance_lookup = (Lookup)dlsym(real, "vkGetInstanceProcAddr");
    submissions_left = atol(getenv("ESMM_TEST_SUBMISSIONS"));
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
