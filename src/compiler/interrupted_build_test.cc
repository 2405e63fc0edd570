// A build that is killed at each of its steps, watched through ptrace; and one that runs out of
// room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <functional>
#include <utility>

#include "compiler/check_engine.h"
#include "compiler/compile.h"
#include "compiler/test_checkpoint.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;

enum class Ending { kFinished, kKilled, kCannotTrace };
enum class Exchange { kAllowed, kDenied };

// Calls that change what is on the disk, or make it last.
bool is_step(uint64_t call) {
  constexpr long kCalls[] = {SYS_openat, SYS_write, SYS_mkdir,    SYS_rename, SYS_renameat2,
                             SYS_unlink, SYS_rmdir, SYS_unlinkat, SYS_fsync};
  return std::ranges::find(kCalls, static_cast<long>(call)) != std::end(kCalls);
}

// A child that runs `build`, stopped at the beginning and the end of every system call.
class TracedChild {
 public:
  explicit TracedChild(const std::function<void()>& build) : pid_(::fork()) {
    if (pid_ != 0) return;
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(kCannotTrace);
    ::raise(SIGSTOP);
    build();
    ::_exit(0);
  }

  // Lets it run until it enters its step number `last_step`, where it is killed.
  Ending run(int last_step, Exchange exchange) {
    ::waitpid(pid_, &status_, 0);
    if (WIFEXITED(status_)) return Ending::kCannotTrace;
    ::ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    bool entering = false;
    bool denied = false;
    for (int step = 0; next_stop();) {
      entering = !entering;
      user_regs_struct registers{};
      ::ptrace(PTRACE_GETREGS, pid_, nullptr, &registers);
      if (!entering) {
        if (std::exchange(denied, false)) set_result(registers, -EINVAL);
        continue;
      }
      if (is_step(registers.orig_rax) && ++step == last_step) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, &status_, 0);
        return Ending::kKilled;
      }
      denied = exchange == Exchange::kDenied && registers.orig_rax == SYS_renameat2 &&
               registers.r8 == RENAME_EXCHANGE;
      if (denied) skip_call(registers);
    }
    return Ending::kFinished;
  }

 private:
  static constexpr int kCannotTrace = 77;

  // False when it has ended. Signals that are not ours are passed on.
  bool next_stop() {
    long signal = 0;
    while (true) {
      ::ptrace(PTRACE_SYSCALL, pid_, nullptr, signal);
      if (::waitpid(pid_, &status_, 0) < 0 || !WIFSTOPPED(status_)) return false;
      if (WSTOPSIG(status_) == (SIGTRAP | 0x80)) return true;
      signal = WSTOPSIG(status_);
    }
  }
  void skip_call(user_regs_struct registers) const {
    registers.orig_rax = static_cast<unsigned long long>(-1);
    ::ptrace(PTRACE_SETREGS, pid_, nullptr, &registers);
  }
  void set_result(user_regs_struct registers, long result) const {
    registers.rax = static_cast<unsigned long long>(result);
    ::ptrace(PTRACE_SETREGS, pid_, nullptr, &registers);
  }

  pid_t pid_;
  int status_ = 0;
};

class InterruptedBuild : public testing::Test {
 protected:
  InterruptedBuild() { made_.write(folder()); }
  fs::path folder() const { return dir_.path() / "checkpoint"; }
  fs::path target() const { return dir_.path() / "engine"; }

  // One thread: it is the one that is watched.
  void compile(const std::string& digest) const {
    WorkerPool pool({.num_threads = 1, .pin = false});
    compile_model(Checkpoint::open(folder()),
                  {.format = PackedFormat::kF32, .source_digest = digest, .source_name = ""},
                  target(), pool, [](const std::string&, int) {});
  }
  // What a start finds: the digest of a whole engine, "none", or what is wrong.
  std::string found() const {
    if (!fs::exists(target())) return "none";
    for (const char* digest : {"old", "new"}) {
      const FoundEngine engine = find_engine(target(), digest, {});
      if (engine.whole) return digest;
      if (!engine.damage.empty()) return engine.damage;
    }
    return "something else";
  }
  // Kills the build of "new" at its first step, its second ... until it ends by itself; `before`
  // puts the folder into the state that it begins with.
  void kill_at_every_step(const std::function<void()>& before, Exchange exchange,
                          const testing::Matcher<std::string>& allowed) {
    for (int step = 1; step < 1000; ++step) {
      before();
      const Ending ending = TracedChild([&] { compile("new"); }).run(step, exchange);
      if (ending == Ending::kCannotTrace) GTEST_SKIP() << "ptrace is not allowed here";
      ASSERT_THAT(found(), allowed) << "killed at step " << step;
      if (ending == Ending::kKilled) continue;
      EXPECT_GT(step, 20) << "of making, writing, syncing and renaming";
      EXPECT_EQ(found(), "new");
      return;
    }
    FAIL() << "the build never ends";
  }
  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (const auto& entry : fs::directory_iterator(dir_.path())) {
      list.push_back(entry.path().filename().string());
    }
    return list;
  }

  TemporaryDir dir_;
  TestCheckpoint made_;
};

TEST_F(InterruptedBuild, X_2_KilledAtAnyStepItLeavesNoEngineOrAWholeOne) {
  kill_at_every_step([&] { fs::remove_all(target()); }, Exchange::kAllowed, AnyOf("none", "new"));
}

TEST_F(InterruptedBuild, X_2_KilledAtAnyStepOfAReplacementOneOfTheTwoIsWhole) {
  kill_at_every_step([&] { compile("old"); }, Exchange::kAllowed, AnyOf("old", "new"));
}

TEST_F(InterruptedBuild, X_2_WhereNamesCannotBeExchangedNothingHalfRemovedStandsUnderTheName) {
  kill_at_every_step([&] { compile("old"); }, Exchange::kDenied, AnyOf("none", "old", "new"));
  if (IsSkipped()) return;
  compile("newer");
  EXPECT_THAT(names(), testing::UnorderedElementsAre("checkpoint", "engine"))
      << "what was moved out of the way is gone";
}

// Files may grow to that size only; the signal that says so by default is ignored.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  SizeLimit(const SizeLimit&) = delete;
  SizeLimit& operator=(const SizeLimit&) = delete;
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST_F(InterruptedBuild, X_1_AWriteThatFailsLeavesNothing) {
  for (const rlim_t bytes : {8192u, 100u}) {
    std::string message;
    {
      const SizeLimit limit(bytes);
      try {
        compile("new");
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
    }
    EXPECT_THAT(message, HasSubstr("rank0.weights: cannot be written: File too large"));
    EXPECT_THAT(names(), ElementsAre("checkpoint"));
  }
}

// A terabyte of zeros that takes no room: its embedding and head are one hole in a file.
TEST_F(InterruptedBuild, X_1_WithoutRoomItDoesNotBeginAndSaysWhatIsNeededAndFree) {
  TestCheckpoint large;
  for (const auto& [key, value] : {std::pair{"hidden_size", 65536},
                                   {"vocab_size", 1 << 21},
                                   {"num_hidden_layers", 1},
                                   {"num_attention_heads", 1},
                                   {"num_key_value_heads", 1},
                                   {"head_dim", 2}}) {
    large.config.set(key, value);
  }
  constexpr int64_t kHidden = 65536;
  const std::vector<std::pair<const char*, std::vector<int64_t>>> shapes = {
      {"model.embed_tokens.weight", {1 << 21, kHidden}},
      {"model.layers.0.input_layernorm.weight", {kHidden}},
      {"model.layers.0.self_attn.q_proj.weight", {2, kHidden}},
      {"model.layers.0.self_attn.k_proj.weight", {2, kHidden}},
      {"model.layers.0.self_attn.v_proj.weight", {2, kHidden}},
      {"model.layers.0.self_attn.o_proj.weight", {kHidden, 2}},
      {"model.layers.0.post_attention_layernorm.weight", {kHidden}},
      {"model.layers.0.mlp.gate_proj.weight", {20, kHidden}},
      {"model.layers.0.mlp.up_proj.weight", {20, kHidden}},
      {"model.layers.0.mlp.down_proj.weight", {kHidden, 20}},
      {"model.norm.weight", {kHidden}},
      {"lm_head.weight", {1 << 21, kHidden}}};
  JsonValue header = JsonObject{};
  int64_t end = 0;
  for (const auto& [name, shape] : shapes) {
    const int64_t begin = end;
    end += 4 * shape[0] * (shape.size() == 2 ? shape[1] : 1);
    header.set(name, JsonObject{{"dtype", "F32"},
                                {"shape", JsonArray(shape.begin(), shape.end())},
                                {"data_offsets", JsonArray{begin, end}}});
  }
  large.tensors.clear();
  large.write(folder());
  const std::string text = to_json(header);
  const uint64_t length = text.size();
  std::ofstream(folder() / "model.safetensors", std::ios::binary)
      << std::string(reinterpret_cast<const char*>(&length), sizeof length) << text;
  std::error_code error;
  fs::resize_file(folder() / "model.safetensors", 8 + length + static_cast<uint64_t>(end), error);
  if (error) GTEST_SKIP() << "no file here may have a terabyte";
  if (fs::space(dir_.path()).available > 1'000'000'000'000) GTEST_SKIP() << "there is room";
  try {
    compile("new");
    FAIL() << "it began";
  } catch (const std::runtime_error& refusal) {
    EXPECT_THAT(refusal.what(),
                testing::ContainsRegex("GB are free, the engine takes 1[0-9.]+ GB"));
  }
  EXPECT_THAT(names(), ElementsAre("checkpoint"));
}

}  // namespace
}  // namespace tidemill
