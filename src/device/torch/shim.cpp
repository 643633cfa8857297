// Functions of libtorch that tl needs and tch lacks. No exception leaves this file: each function
// returns null, or a message that the caller frees with tl_free.
//
// Nothing here links to CUDA: streams, events and the allocator are used through c10's device
// interfaces, which libtorch_cuda.so implements when it is loaded.

#include <ATen/autocast_mode.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdlib>
#include <memory>
#include <unordered_map>
#include <vector>

#include "guarded.h"

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;

DeviceType type_of(int cuda) { return cuda != 0 ? DeviceType::CUDA : DeviceType::CPU; }

// The stream that copies images to a GPU in parallel to computation; one a thread and device.
c10::Stream copy_stream(const c10::impl::VirtualGuardImpl &impl, Device device) {
    thread_local std::unordered_map<int, c10::Stream> streams;
    auto known = streams.find(device.index());
    if (known == streams.end()) {
        known = streams.emplace(device.index(), impl.getStreamFromGlobalPool(device)).first;
    }
    return known->second;
}

struct Download {
    c10::Event done;
};

} // namespace

extern "C" {

void tl_free(char *words) {
    if (words != tl_no_memory) {
        std::free(words);
    }
}

// Starts autocast on this thread as torch.autocast(device, dtype) does; `enabled` and `kind`
// receive the previous state.
char *tl_autocast_enter(int cuda, int dtype, int *enabled, int *kind) {
    return guarded([&] {
        const auto device = type_of(cuda);
        *enabled = at::autocast::is_autocast_enabled(device) ? 1 : 0;
        *kind = static_cast<int>(at::autocast::get_autocast_dtype(device));
        at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(dtype));
        at::autocast::set_autocast_enabled(device, true);
        at::autocast::increment_nesting();
    });
}

char *tl_autocast_leave(int cuda, int enabled, int kind) {
    return guarded([&] {
        const auto device = type_of(cuda);
        if (at::autocast::decrement_nesting() == 0) {
            at::autocast::clear_cache();
        }
        at::autocast::set_autocast_enabled(device, enabled != 0);
        at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(kind));
    });
}

// Multiplies all gradients by `inverse`, and sets `found` to 1 if one of them is not finite.
char *tl_unscale(at::Tensor *const *gradients, size_t count, at::Tensor *found, const at::Tensor *inverse) {
    return guarded([&] {
        std::vector<at::Tensor> list;
        list.reserve(count);
        for (size_t index = 0; index < count; ++index) {
            list.push_back(*gradients[index]);
        }
        at::_amp_foreach_non_finite_check_and_unscale_(list, *found, *inverse);
    });
}

// Copies a CPU tensor to a GPU: from pinned memory, on its own stream, so that it overlaps with
// computation. Later work on the copy waits for it, on the device.
char *tl_upload(const at::Tensor *host, int index, at::Tensor **result) {
    return guarded([&] {
        const Device device(DeviceType::CUDA, static_cast<DeviceIndex>(index));
        const c10::impl::VirtualGuardImpl impl(DeviceType::CUDA);
        const c10::Stream current = impl.getStream(device);
        const c10::Stream beside = copy_stream(impl, device);
        const at::Tensor pinned = host->is_pinned() ? *host : host->contiguous().pin_memory();
        at::Tensor copy;
        {
            const c10::StreamGuard guard(beside);
            // Its allocator does not reuse the pinned memory before the copy is done.
            copy = pinned.to(device, pinned.scalar_type(), /*non_blocking=*/true, /*copy=*/true);
        }
        c10::Event arrived(DeviceType::CUDA);
        arrived.record(beside);
        arrived.block(current);
        // Its memory belongs to the copy stream: no reuse while the other stream reads it.
        copy.record_stream(current);
        *result = new at::Tensor(std::move(copy));
    });
}

// Begins to copy a GPU tensor to pinned memory; the values are valid after tl_download_wait.
char *tl_download(const at::Tensor *values, at::Tensor **result, Download **download) {
    return guarded([&] {
        const c10::impl::VirtualGuardImpl impl(DeviceType::CUDA);
        const at::Tensor whole = values->contiguous();
        auto options = whole.options().device(at::kCPU).pinned_memory(true);
        auto host = std::make_unique<at::Tensor>(at::empty(whole.sizes(), options));
        host->copy_(whole, /*non_blocking=*/true);
        auto waiting = std::make_unique<Download>(Download{c10::Event(DeviceType::CUDA)});
        waiting->done.record(impl.getStream(whole.device()));
        *result = host.release();
        *download = waiting.release();
    });
}

// Waits for a download, and ends it.
char *tl_download_wait(Download *download) {
    return guarded([&] {
        const std::unique_ptr<Download> owned(download);
        owned->done.synchronize();
    });
}

void tl_download_drop(Download *download) { delete download; }

// Returns the GPU allocator's cached memory to the driver.
char *tl_empty_cache() {
    return guarded([&] { c10::getDeviceAllocator(DeviceType::CUDA)->emptyCache(); });
}

// Peak bytes of tensors on a GPU since the last call.
char *tl_peak_memory(int index, int64_t *bytes) {
    return guarded([&] {
        auto *allocator = c10::getDeviceAllocator(DeviceType::CUDA);
        const auto device = static_cast<DeviceIndex>(index);
        *bytes = 0;
        if (allocator->initialized()) {
            *bytes = allocator->getDeviceStats(device).allocated_bytes[0].peak;
            allocator->resetPeakStats(device);
        }
    });
}

} // extern "C"
