// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "state.hpp"

#include <fbuf/message.hpp>

namespace fbuf {

void buffer::give_back() noexcept
{
	cache_->give_back(handle_, data_, size_, lent_);
	cache_ = nullptr;
}

result<void> message::secure()
{
	const long done = sys::handles(domain_->fd(), FBUFS_SECURE, {&handle_, 1});
	if (done < 0)
		return sys::failure(static_cast<int>(-done));
	locked_ = true;
	return {};
}

void message::release() noexcept
{
	if (!domain_)
		return;
	domain_->release_later(handle_);
	forget();
}

void aggregate::add(const part& next)
{
	if (many_.empty() && count_ < few_.size()) {
		few_[count_++] = next;
	} else {
		if (many_.empty())
			many_.assign(few_.begin(), few_.end());
		many_.push_back(next);
	}
	length_ += next.length;
}

result<void> aggregate::append(buffer&& own, std::size_t offset, std::size_t length)
{
	if (!own || length == 0 || offset > own.size() || length > own.size() - offset)
		return sys::failure(ERANGE);
	add({own.handle(), 0, static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(length)});
	if (!first_)
		first_ = std::move(own);
	else
		buffers_.push_back(std::move(own));
	return {};
}

result<void> aggregate::append_more(std::size_t offset, std::size_t length)
{
	const buffer& last = buffers_.empty() ? first_ : buffers_.back();
	if (!last || length == 0 || offset > last.size() || length > last.size() - offset)
		return sys::failure(ERANGE);
	add({last.handle(), 0, static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(length)});
	return {};
}

result<void> aggregate::append(const message& held, std::size_t which, std::size_t offset, std::size_t length)
{
	const auto slices = held.slices();
	if (!held || which >= slices.size() || length == 0 || offset > slices[which].data.size() ||
	    length > slices[which].data.size() - offset)
		return sys::failure(ERANGE);
	add({slices[which].fbuf, held.handle_, slices[which].offset + static_cast<std::uint32_t>(offset),
	     static_cast<std::uint32_t>(length)});
	return {};
}

result<void> aggregate::append(const message& held)
{
	const auto slices = held.slices();
	for (std::size_t i = 0; i < slices.size(); i++)
		if (auto done = append(held, i, 0, slices[i].data.size()); !done)
			return done;
	return {};
}

// The fbufs are the receivers' now.
void aggregate::sent() noexcept
{
	first_.cache_ = nullptr;
	for (buffer& each : buffers_)
		each.cache_ = nullptr;
	buffers_.clear();
	many_.clear();
	count_ = 0;
	length_ = 0;
}

} // namespace fbuf
