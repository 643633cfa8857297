// No exception of libtorch may reach Rust: it becomes a message, which the caller frees with
// tl_free.

#pragma once

#include <cstring>
#include <exception>

template <typename Work>
char *guarded(Work work) noexcept {
    try {
        work();
        return nullptr;
    } catch (const std::exception &error) {
        char *words = strdup(error.what());
        return words != nullptr ? words : strdup("out of memory");
    } catch (...) {
        return strdup("an unknown C++ exception");
    }
}
