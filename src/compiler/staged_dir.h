// A folder built beside its final place and renamed when it is complete. Whoever sees the final
// name sees everything; an interruption leaves nothing under it.
//
// The folder under construction has one name per target and is locked (flock on the folder itself),
// so that processes which compile the same target wait for each other. What an interrupted process
// left there is removed by the next one.
#pragma once

#include <filesystem>
#include <functional>

namespace tidemill {

class StagedDir {
 public:
  // Waits while another process builds the same target, and says so through `on_wait` several times
  // a second, which may throw to wait no longer: look afterwards whether the target is there now.
  // Throws std::runtime_error with path and reason.
  explicit StagedDir(
      const std::filesystem::path& target, const std::function<void()>& on_wait = [] {});
  StagedDir(const StagedDir&) = delete;
  StagedDir& operator=(const StagedDir&) = delete;
  ~StagedDir();  // removes what was not published

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& target() const { return target_; }

  // Files and folder reach the disk, then the folder gets its final name; a folder that had it is
  // replaced in the same instant, then removed.
  void publish();

 private:
  void replace_target();

  std::filesystem::path target_;
  std::filesystem::path path_;
  int lock_ = -1;
  bool published_ = false;
};

// Removes folders under construction in `parent` that nobody builds any more.
void remove_abandoned_stages(const std::filesystem::path& parent);

}  // namespace tidemill
