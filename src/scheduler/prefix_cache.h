// Finds blocks already computed for the same leading tokens. A tree over whole blocks: a node is
// the blocks (one per KV group) of 32 tokens behind its parent's tokens, inside a scope. A hit
// compares the tokens, not only the hash. Owned by the scheduler.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/token_id.h"
#include "scheduler/block_pool.h"

namespace tidemill {

// Tokens per block; executor/ checks that the kernels mean the same number.
inline constexpr int32_t kBlockTokens = 32;

uint64_t hash_of_block(std::span<const TokenId> tokens);

class PrefixCache {
 public:
  using Hash = uint64_t (*)(std::span<const TokenId>);
  explicit PrefixCache(Hash hash = &hash_of_block);  // tests pass a weak one
  ~PrefixCache();

  // The node of a block; never used twice, so that one that was evicted is known to be gone.
  using NodeId = int64_t;
  static constexpr NodeId kRoot = 0;  // before the first block
  using GroupBlocks = std::vector<BlockRef>;

  // The longest chain of cached blocks that `tokens` begins with: per block the node's blocks of
  // every group, shared. At most max_blocks.
  struct Found {
    std::vector<GroupBlocks> blocks;
    NodeId last = kRoot;
  };
  Found find(const std::string& scope, std::span<const TokenId> tokens, int64_t max_blocks);

  // Remembers the blocks of 32 tokens that follow `parent`: a sequence goes on where it inserted
  // last. When the same tokens are known already, the answer is their blocks, and the sequence
  // should hold those instead of its own: equal bits are stored once, and whoever holds a block
  // holds its parents, so that what nobody holds can be evicted. (Where every group is windowed a
  // sequence lets go of its early blocks; when those were evicted meanwhile, its later ones are not
  // remembered, and the answer is the parent that is gone.)
  struct Inserted {
    NodeId node;
    GroupBlocks known;
  };
  Inserted insert(const std::string& scope, NodeId parent, std::span<const TokenId> tokens,
                  GroupBlocks blocks);
  // Counts the chain up to that node as used now.
  void touch(NodeId node);

  // Gives up the node that was used longest ago among those without children that nobody but the
  // cache holds. Where there is none, one with children: a sequence behind a window holds those and
  // not their parents. They go from the cache with it and stay the sequence's, whose later blocks
  // are not remembered then. False when nothing is held by the cache alone.
  bool evict_one(const std::vector<BlockPool*>& pools);

  int64_t num_nodes() const;
  int64_t num_scopes() const { return static_cast<int64_t>(roots_.size()); }
  // How many nodes evict_one() could give up, one after another.
  int64_t num_evictable(const std::vector<BlockPool*>& pools) const;
  // Blocks of group `group` that only the cache holds.
  int64_t num_unshared(const BlockPool& pool, size_t group) const;
  // How often the cache holds each block of `group`: 0 or 1.
  std::vector<int32_t> holders(const BlockPool& pool, size_t group) const;
  // Audits the tree (I2, I4, I7); for tests.
  void check(const std::vector<BlockPool*>& pools) const;

 private:
  struct Node;
  static GroupBlocks shares_of(const Node& node);
  static bool is_unheld(const Node& node, const std::vector<BlockPool*>& pools);
  Node* child(Node& parent, std::span<const TokenId> tokens);
  Node& root(const std::string& scope);
  Node& add(Node& parent, std::span<const TokenId> tokens, GroupBlocks blocks);
  void forget(Node* node);
  void forget_tree(Node* top);
  void forget_if_empty(const Node& node);  // of a scope
  void touch_upwards(Node* node);

  Hash hash_;
  std::unordered_map<std::string, std::unique_ptr<Node>> roots_;  // none without children
  std::unordered_map<NodeId, Node*> nodes_;                       // without the roots
  std::list<Node*> by_use_;                                       // least recently used first
  NodeId last_id_ = kRoot;
};

}  // namespace tidemill
