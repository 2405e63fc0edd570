#include "scheduler/prefix_cache.h"

#include <algorithm>

#include "base/check.h"

namespace tidemill {

// FNV-1a over the ids of one block. Equal hashes are told apart by the tokens.
uint64_t hash_of_block(std::span<const TokenId> tokens) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const TokenId token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3u;
  }
  return hash;
}

struct PrefixCache::Node {
  NodeId id = kRoot;
  Node* parent = nullptr;  // null for the root of a scope
  std::string scope;       // of a root
  std::vector<TokenId> tokens;
  GroupBlocks blocks;
  std::unordered_multimap<uint64_t, std::unique_ptr<Node>> children;
  std::list<Node*>::iterator place;  // in by_use_; not of a root
};

PrefixCache::GroupBlocks PrefixCache::shares_of(const Node& node) {
  GroupBlocks shares;
  for (const BlockRef& block : node.blocks) shares.push_back(block.share());
  return shares;
}

PrefixCache::PrefixCache(Hash hash) : hash_(hash) {}

// Flat, not by recursion: a chain is as deep as the longest text has blocks.
PrefixCache::~PrefixCache() {
  std::vector<std::unique_ptr<Node>> nodes;
  for (auto& [scope, node] : roots_) nodes.push_back(std::move(node));
  while (!nodes.empty()) {
    const std::unique_ptr<Node> node = std::move(nodes.back());
    nodes.pop_back();
    for (auto& [hash, child] : node->children) nodes.push_back(std::move(child));
  }
}

PrefixCache::Node& PrefixCache::root(const std::string& scope) {
  const auto known = roots_.find(scope);
  if (known != roots_.end()) return *known->second;
  auto node = std::make_unique<Node>();
  node->scope = scope;
  return *roots_.emplace(scope, std::move(node)).first->second;
}

PrefixCache::Node* PrefixCache::child(Node& parent, std::span<const TokenId> tokens) {
  const auto [begin, end] = parent.children.equal_range(hash_(tokens));
  for (auto it = begin; it != end; ++it) {
    if (std::equal(tokens.begin(), tokens.end(), it->second->tokens.begin(),
                   it->second->tokens.end())) {
      return it->second.get();
    }
  }
  return nullptr;
}

// A parent counts as used after its children: what was used longest ago is then a leaf, and
// eviction finds it at the front.
void PrefixCache::touch_upwards(Node* node) {
  for (; node != nullptr && node->parent != nullptr; node = node->parent) {
    by_use_.splice(by_use_.end(), by_use_, node->place);
  }
}

void PrefixCache::touch(NodeId node) {
  if (const auto found = nodes_.find(node); found != nodes_.end()) touch_upwards(found->second);
}

PrefixCache::Found PrefixCache::find(const std::string& scope, std::span<const TokenId> tokens,
                                     int64_t max_blocks) {
  Found found;
  const auto start = roots_.find(scope);
  Node* node = start == roots_.end() ? nullptr : start->second.get();
  Node* last = nullptr;
  while (node != nullptr && static_cast<int64_t>(found.blocks.size()) < max_blocks &&
         tokens.size() >= kBlockTokens) {
    node = child(*node, tokens.first(kBlockTokens));
    if (node == nullptr) break;
    last = node;
    found.blocks.push_back(shares_of(*node));
    tokens = tokens.subspan(kBlockTokens);
  }
  touch_upwards(last);
  if (last != nullptr) found.last = last->id;
  return found;
}

PrefixCache::Inserted PrefixCache::insert(const std::string& scope, NodeId parent_id,
                                          std::span<const TokenId> tokens, GroupBlocks blocks) {
  const auto found = nodes_.find(parent_id);
  if (parent_id != kRoot && found == nodes_.end()) return {.node = parent_id, .known = {}};
  Node& parent = parent_id == kRoot ? root(scope) : *found->second;
  try {
    if (const Node* known = child(parent, tokens)) {
      return {.node = known->id, .known = shares_of(*known)};
    }
    return {.node = add(parent, tokens, std::move(blocks)).id, .known = {}};
  } catch (...) {
    forget_if_empty(parent);
    throw;
  }
}

// Without memory for one of the lists, none has it.
PrefixCache::Node& PrefixCache::add(Node& parent, std::span<const TokenId> tokens,
                                    GroupBlocks blocks) {
  auto owned = std::make_unique<Node>();
  Node* node = owned.get();
  node->id = ++last_id_;
  node->parent = &parent;
  node->tokens.assign(tokens.begin(), tokens.end());
  node->blocks = std::move(blocks);
  std::list<Node*> place = {node};
  const auto known = nodes_.emplace(node->id, node).first;
  try {
    parent.children.emplace(hash_(tokens), std::move(owned));
  } catch (...) {
    nodes_.erase(known);
    throw;
  }
  // Used just before its parent, as touch_upwards() would have it, without the walk.
  node->place = place.begin();
  by_use_.splice(parent.parent == nullptr ? by_use_.end() : parent.place, place);
  return *node;
}

bool PrefixCache::is_unheld(const Node& node, const std::vector<BlockPool*>& pools) {
  for (size_t group = 0; group < node.blocks.size(); ++group) {
    if (pools[group]->holders(node.blocks[group].id()) != 1) return false;
  }
  return true;
}

int64_t PrefixCache::num_evictable(const std::vector<BlockPool*>& pools) const {
  return std::count_if(by_use_.begin(), by_use_.end(),
                       [&](const Node* node) { return is_unheld(*node, pools); });
}

bool PrefixCache::evict_one(const std::vector<BlockPool*>& pools) {
  Node* inner = nullptr;  // nobody holds it, but somebody what hangs on it
  for (Node* node : by_use_) {
    if (!is_unheld(*node, pools)) continue;
    if (node->children.empty()) {
      forget(node);
      return true;
    }
    if (inner == nullptr) inner = node;
  }
  if (inner == nullptr) return false;
  forget_tree(inner);
  return true;
}

// The leaves first, without recursion: a chain is as deep as a text has blocks.
void PrefixCache::forget_tree(Node* top) {
  for (Node* node = top;;) {
    while (!node->children.empty()) node = node->children.begin()->second.get();
    Node* const parent = node->parent;
    const bool is_top = node == top;
    forget(node);
    if (is_top) return;
    node = parent;
  }
}

void PrefixCache::forget(Node* node) {
  Node* parent = node->parent;
  by_use_.erase(node->place);
  nodes_.erase(node->id);
  const auto [begin, end] = parent->children.equal_range(hash_(node->tokens));
  parent->children.erase(
      std::find_if(begin, end, [&](const auto& entry) { return entry.second.get() == node; }));
  forget_if_empty(*parent);
}

// Scopes come with requests: an empty one must not stay.
void PrefixCache::forget_if_empty(const Node& node) {
  if (node.parent != nullptr || !node.children.empty()) return;
  roots_.erase(roots_.find(node.scope));
}

int64_t PrefixCache::num_nodes() const { return static_cast<int64_t>(by_use_.size()); }

int64_t PrefixCache::num_unshared(const BlockPool& pool, size_t group) const {
  return std::count_if(by_use_.begin(), by_use_.end(), [&](const Node* node) {
    return pool.holders(node->blocks[group].id()) == 1;
  });
}

std::vector<int32_t> PrefixCache::holders(const BlockPool& pool, size_t group) const {
  std::vector<int32_t> counts(static_cast<size_t>(pool.num_blocks()), 0);
  for (const Node* node : by_use_) ++counts[static_cast<size_t>(node->blocks[group].id())];
  return counts;
}

void PrefixCache::check(const std::vector<BlockPool*>& pools) const {
  size_t num_children = 0;
  for (const auto& [scope, root] : roots_) {
    CHECK(root->scope == scope && !root->children.empty(), "scope '{}' is empty", scope);
    num_children += root->children.size();
  }
  for (const Node* node : by_use_) {
    num_children += node->children.size();
    CHECK(nodes_.contains(node->id) && nodes_.at(node->id) == node,
          "node {} is not known by its id", node->id);
    CHECK(node->parent != nullptr && node->tokens.size() == kBlockTokens,
          "a node of {} tokens without a parent", node->tokens.size());
    const auto [begin, end] = node->parent->children.equal_range(hash_(node->tokens));
    CHECK(std::any_of(begin, end, [&](const auto& entry) { return entry.second.get() == node; }),
          "a node is not among its parent's children");
    CHECK(node->blocks.size() == pools.size(), "{} blocks for {} groups", node->blocks.size(),
          pools.size());
    for (size_t group = 0; group < pools.size(); ++group) {
      CHECK(node->blocks[group] && pools[group]->holders(node->blocks[group].id()) > 0,
            "a node has lost its block of group {}", group);
    }
  }
  CHECK(nodes_.size() == by_use_.size(), "{} nodes, {} of them by use", nodes_.size(),
        by_use_.size());
  CHECK(num_children == by_use_.size(), "{} nodes, {} of them reachable", by_use_.size(),
        num_children);
  for (size_t group = 0; group < pools.size(); ++group) {
    for (const int32_t held : holders(*pools[group], group)) {
      CHECK(held <= 1, "one block stores {} prefixes", held);
    }
  }
}

}  // namespace tidemill
