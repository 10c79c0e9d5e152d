// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <expected>
#include <string>
#include <system_error>

namespace fbuf {

/// What a call returns: a value, or why there is none.
///
/// Calls that wait end with std::errc::interrupted when a signal came, nothing was done yet, and the process has
/// a handler without SA_RESTART (sigaction(2)). Otherwise they go on: after handlers with SA_RESTART, which those
/// of signal(3) are, after a stop (SIGTSTP) and its end, and when a debugger attaches.
template <typename T>
using result = std::expected<T, std::error_code>;

/// Conditions that are no errno.
enum class errc {
	end_of_stream = 1, ///< the sender is gone and everything was received
	no_module,	   ///< there is no /dev/fbufs: the module is not loaded
	wrong_version,	   ///< the module speaks another version of the interface
	bad_peer,	   ///< the other side of a rendezvous does not speak this protocol
	no_end_passed,	   ///< a rendezvous ended without an end being passed
};

/// Category "fbuf" of the conditions above.
[[nodiscard]] const std::error_category& category() noexcept;
[[nodiscard]] std::error_code make_error_code(errc condition) noexcept;

/// A sentence for people: what is wrong and what to do about it.
[[nodiscard]] std::string explain(const std::error_code& error);

} // namespace fbuf

template <>
struct std::is_error_code_enum<fbuf::errc> : std::true_type {
};
