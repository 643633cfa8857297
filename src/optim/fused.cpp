// The fused optimizers of libtorch, which tch lacks. No exception leaves this file: each function
// returns null, or a message that the caller frees with tl_free.

#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>

#include <vector>

#include "../device/torch/guarded.h"

namespace {

std::vector<at::Tensor> list(at::Tensor *const *tensors, size_t count) {
    std::vector<at::Tensor> all;
    all.reserve(count);
    for (size_t i = 0; i < count; ++i) {
        all.push_back(*tensors[i]);
    }
    return all;
}

// Whether two tensors of the same shape have the same memory layout. The stride of a dimension of
// size 1 does not matter: those of 1x1 kernels and of their gradients differ only in name.
bool lie_alike(const at::Tensor &one, const at::Tensor &other) {
    for (int64_t side = 0; side < one.dim(); ++side) {
        if (one.size(side) > 1 && one.stride(side) != other.stride(side)) {
            return false;
        }
    }
    return true;
}

// The fused operations ignore strides: gradients must have their parameters' layout, which autograd
// ensures in all but rare cases.
std::vector<at::Tensor> gradients(const std::vector<at::Tensor> &params) {
    std::vector<at::Tensor> all;
    all.reserve(params.size());
    for (const auto &param : params) {
        const auto &grad = param.grad();
        all.push_back(lie_alike(param, grad) ? grad : at::empty_like(param.detach()).copy_(grad));
    }
    return all;
}

} // namespace

extern "C" {

// One step of parameters that all have a gradient; `buffers` is empty without momentum, and is
// filled if `first`.
char *tl_fused_sgd(at::Tensor *const *params, at::Tensor *const *buffers, size_t count, double weight_decay,
                   double momentum, double lr, int nesterov, int first) {
    return guarded([&] {
        const auto all = list(params, count);
        const auto memory = list(buffers, momentum == 0.0 ? 0 : count);
        at::_fused_sgd_(all, gradients(all), memory, weight_decay, momentum, lr, 0.0, nesterov != 0, false, first != 0);
    });
}

// The same; `steps` are float32 without dimensions, this update included.
char *tl_fused_adamw(at::Tensor *const *params, at::Tensor *const *means, at::Tensor *const *squares,
                     at::Tensor *const *steps, size_t count, double lr, double beta1, double beta2, double weight_decay,
                     double eps) {
    return guarded([&] {
        const auto all = list(params, count);
        at::_fused_adamw_(all, gradients(all), list(means, count), list(squares, count), {}, list(steps, count), lr,
                          beta1, beta2, weight_decay, eps, false, false);
    });
}

// Drops a parameter's gradient, so that the next one need not be added to zeros.
char *tl_drop_gradient(at::Tensor *param) {
    return guarded([&] { param->mutable_grad().reset(); });
}
}
