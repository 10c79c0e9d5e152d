// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

/// @file
/// The whole library. Every other header of it can be included alone, too.
///
/// Objects are movable, not copyable. What a domain made (senders, receivers, buffers, messages)
/// must be destroyed before the domain. Functions report failures as std::error_code and throw
/// nothing themselves; containers inside may throw std::bad_alloc.
#pragma once

#include <fbuf/buffer.hpp>
#include <fbuf/channel.hpp>
#include <fbuf/domain.hpp>
#include <fbuf/error.hpp>
#include <fbuf/io.hpp>
#include <fbuf/message.hpp>
#include <fbuf/pool.hpp>
#include <fbuf/rendezvous.hpp>
#include <fbuf/report.hpp>
