// Memory that a variant allocated, zeroed, and gives back itself. Move-only. Only kernels/ follows
// the address; everybody else hands views on.
#pragma once

#include <cstddef>
#include <utility>

namespace tidemill {

class Buffer {
 public:
  Buffer() = default;
  using Release = void (*)(void* data, size_t bytes);
  Buffer(void* data, size_t bytes, Release release)
      : data_(data), bytes_(bytes), release_(release) {}
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        release_(std::exchange(other.release_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(release_, other.release_);
    return *this;
  }
  ~Buffer() {
    if (release_ != nullptr) release_(data_, bytes_);
  }

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Release release_ = nullptr;
};

}  // namespace tidemill
