// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <fbuf/domain.hpp>

namespace fbuf {

/// Explain writes to locked buffers before the process dies of them: on a SIGBUS whose address lies
/// in the window of the domain's pool, one line on @p fd names the address, the fbuf, the offset in
/// it, its channel and why it may not be written. Then the signal goes where it would have gone
/// before: to the handler that was installed, or to the default action.
///
/// Installs a SIGBUS handler for the whole process; the domain must live until the end of it.
/// One domain a process; a second call moves the report to its domain.
[[nodiscard]] result<void> report_violations(const domain& which, int fd = 2);

} // namespace fbuf
