// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include <fbuf/error.hpp>

#include <cerrno>

namespace fbuf {

namespace {

class fbuf_category : public std::error_category {
public:
	[[nodiscard]] const char* name() const noexcept override { return "fbuf"; }
	[[nodiscard]] std::string message(int value) const override
	{
		switch (static_cast<errc>(value)) {
		case errc::end_of_stream: return "the sender is gone and everything was received";
		case errc::no_module:
			return "there is no /dev/fbufs; load the module: 'sudo modprobe fbufs', or 'sudo make load' "
			       "in the source tree";
		case errc::wrong_version:
			return "the loaded module speaks another version of the interface; load the one that was "
			       "built with this library";
		case errc::bad_peer: return "the other side does not speak the fbufs rendezvous protocol";
		case errc::no_end_passed:
			return "the other side closed the rendezvous without passing an end of a channel";
		}
		return "unknown condition";
	}
};

} // namespace

const std::error_category& category() noexcept
{
	static const fbuf_category instance;
	return instance;
}

std::error_code make_error_code(errc condition) noexcept
{
	return {static_cast<int>(condition), category()};
}

std::string explain(const std::error_code& error)
{
	if (error.category() == category())
		return error.message();
	switch (error.value()) {
	case EACCES:
		return "no permission; to use /dev/fbufs join its group: 'sudo usermod -aG fbufs $USER', and log in anew";
	case ENOBUFS:
		return "the pool is full of fbufs that this process itself keeps; free some or make the pool larger";
	case ENOMEM: return "no memory for fbufs; raise the memory cgroup's limit or the module's parameter limit_mb";
	case EPIPE: return "no receiver is left";
	case EXDEV: return "the fbuf was allocated for another channel; allocate it from the sender that sends it";
	case EPERM: return "the domain belongs to another process; open one in this process";
	case ECONNREFUSED:
	case ENOENT: return "nobody listens there; start the other side first or let it wait";
	case EADDRINUSE: return "somebody listens there already; use another path";
	default: return error.message();
	}
}

} // namespace fbuf
