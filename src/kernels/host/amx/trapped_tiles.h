// For tests: runs tile instructions on a processor that has none. There each of them is an invalid
// opcode, a SIGILL; the handler reads the instruction, does it on plain tiles and goes on behind
// it. So the object file that a processor with AMX will run is tested, registers, addresses and
// order of operands included.
#pragma once

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "base/check.h"
#include "kernels/host/amx/plain_tiles.h"

namespace tidemill::test {

// One at a time, for the tile instructions of one thread, as long as it lives.
class TrappedTiles {
 public:
  TrappedTiles() {
    CHECK(current() == nullptr, "there is one handler for all");
    current() = this;
    struct sigaction action {};
    action.sa_sigaction = on_invalid_opcode;
    action.sa_flags = SA_SIGINFO;
    CHECK(sigaction(SIGILL, &action, &before_) == 0, "SIGILL cannot be handled");
  }
  ~TrappedTiles() {
    sigaction(SIGILL, &before_, nullptr);
    current() = nullptr;
  }
  TrappedTiles(const TrappedTiles&) = delete;
  TrappedTiles& operator=(const TrappedTiles&) = delete;

  int64_t num_executed() const { return num_executed_; }

 private:
  static TrappedTiles*& current() {
    static TrappedTiles* instance = nullptr;
    return instance;
  }

  static void on_invalid_opcode(int, siginfo_t*, void* context) {
    greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const int length = current()->execute(registers);
    if (length == 0) signal(SIGILL, SIG_DFL);  // not ours: it faults again, for good
    registers[REG_RIP] += length;
    current()->num_executed_ += length > 0;
  }

  // Operands as they stand in the instruction: a three-byte VEX prefix, opcode, ModRM, perhaps SIB
  // and displacement.
  struct Operands {
    int prefix, opcode;
    int reg, rm, vvvv;  // numbers of tiles
    bool in_memory;
    int64_t address;  // without the scaled index
    int64_t index;    // scaled
    int length;
  };

  static int64_t value(const greg_t* registers, int number) {
    constexpr int kPlaces[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                 REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                 REG_R12, REG_R13, REG_R14, REG_R15};
    return registers[kPlaces[number]];
  }

  static Operands read(const unsigned char* code, const greg_t* registers) {
    Operands operands{};
    operands.prefix = code[2] & 3;
    operands.vvvv = (~code[2] >> 3) & 15;
    operands.opcode = code[3];
    const int mod = code[4] >> 6;
    operands.reg = (code[4] >> 3) & 7;
    operands.rm = code[4] & 7;
    operands.in_memory = mod != 3;
    operands.length = 5;
    if (!operands.in_memory) return operands;
    const int base_extension = (code[1] & 0x20) != 0 ? 0 : 8;
    const int index_extension = (code[1] & 0x40) != 0 ? 0 : 8;
    int base = operands.rm;
    if (operands.rm == 4) {
      const unsigned char sib = code[operands.length++];
      base = sib & 7;
      const int index = ((sib >> 3) & 7) + index_extension;
      if (index != 4) operands.index = value(registers, index) * (int64_t{1} << (sib >> 6));
    }
    int displacement_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    const bool without_base = mod == 0 && base == 5;
    if (without_base) {
      displacement_bytes = 4;
    } else {
      operands.address = value(registers, base + base_extension);
    }
    int32_t displacement = 0;
    memcpy(&displacement, code + operands.length, static_cast<size_t>(displacement_bytes));
    if (displacement_bytes == 1) displacement = static_cast<int8_t>(displacement);
    operands.length += displacement_bytes;
    operands.address += displacement;
    if (without_base && operands.rm == 5) operands.address += registers[REG_RIP] + operands.length;
    return operands;
  }

  // Length of the instruction, 0 when it is none of ours.
  int execute(const greg_t* registers) {
    const auto* code = reinterpret_cast<const unsigned char*>(registers[REG_RIP]);
    const bool is_map_0f38 = code[0] == 0xc4 && (code[1] & 0x1f) == 2;
    const bool is_w0_128 = (code[2] & 0x84) == 0;
    if (!is_map_0f38 || !is_w0_128) return 0;
    const Operands operands = read(code, registers);
    const bool done = operands.opcode == 0x49   ? set(operands)
                      : operands.opcode == 0x4b ? move(operands)
                                                : dot(operands);
    return done ? operands.length : 0;
  }

  enum Prefix { kNone, k66, kF3, kF2 };

  bool set(const Operands& operands) {
    if (operands.prefix == kNone && operands.in_memory && operands.reg == 0) {  // LDTILECFG
      TileShapes shapes;
      memcpy(&shapes, reinterpret_cast<const void*>(operands.address + operands.index),
             sizeof shapes);
      tiles_.configure(shapes);
    } else if (operands.prefix == kNone && !operands.in_memory && operands.reg == 0) {
      tiles_.release();
    } else if (operands.prefix == kF2 && !operands.in_memory) {
      tiles_.zero(operands.reg);
    } else {
      return false;
    }
    return true;
  }

  // In TILELOADD, TILELOADDT1 and TILESTORED the index is the distance of two rows.
  bool move(const Operands& operands) {
    if (!operands.in_memory) return false;
    auto* rows = reinterpret_cast<unsigned char*>(operands.address);
    if (operands.prefix == kF2 || operands.prefix == k66) {
      tiles_.load(operands.reg, rows, operands.index);
    } else if (operands.prefix == kF3) {
      tiles_.store(operands.reg, rows, operands.index);
    } else {
      return false;
    }
    return true;
  }

  bool dot(const Operands& operands) {
    if (operands.in_memory || operands.vvvv >= kNumTiles) return false;
    const int c = operands.reg;
    const int a = operands.rm;
    const int b = operands.vvvv;
    if (operands.opcode == 0x5c && operands.prefix == kF3) {
      tiles_.dot_bf16(c, a, b);
    } else if (operands.opcode == 0x5e) {
      tiles_.dot_bytes(c, a, b,
                       {.a_signed = operands.prefix == kF3 || operands.prefix == kF2,
                        .b_signed = operands.prefix == k66 || operands.prefix == kF2});
    } else {
      return false;
    }
    return true;
  }

  PlainTiles tiles_;
  int64_t num_executed_ = 0;
  struct sigaction before_ {};
};

}  // namespace tidemill::test
