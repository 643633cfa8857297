// No exception of libtorch may reach Rust: it becomes a message, which the caller frees with
// tl_free.

#pragma once

#include <cstring>
#include <exception>

// The message where there is no memory for one. Null would mean success.
inline char tl_no_memory[] = "std::bad_alloc";

inline char *tl_message(const char *words) noexcept {
    char *copy = strdup(words);
    return copy != nullptr ? copy : tl_no_memory;
}

template <typename Work>
char *guarded(Work work) noexcept {
    try {
        work();
        return nullptr;
    } catch (const std::exception &error) {
        return tl_message(error.what());
    } catch (...) {
        return tl_message("an unknown C++ exception");
    }
}
