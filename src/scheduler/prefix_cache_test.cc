#include "scheduler/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace tidemill {
namespace {

std::vector<TokenId> blocks_of(std::initializer_list<TokenId> fills) {
  std::vector<TokenId> tokens;
  for (const TokenId fill : fills) tokens.insert(tokens.end(), kBlockTokens, fill);
  return tokens;
}

// A pool and its cache. A chain is inserted as a sequence would: block by block, then let go.
struct Fixture {
  explicit Fixture(int64_t num_blocks, PrefixCache::Hash hash = &hash_of_block)
      : pool(num_blocks), cache(hash) {}

  PrefixCache::NodeId insert(const std::vector<TokenId>& tokens, const std::string& scope = "") {
    PrefixCache::NodeId last = PrefixCache::kRoot;
    for (size_t i = 0; i * kBlockTokens < tokens.size(); ++i) {
      last = insert(last, std::span(tokens).subspan(i * kBlockTokens, kBlockTokens), pool.take(),
                    scope)
                 .node;
    }
    return last;
  }
  PrefixCache::Inserted insert(PrefixCache::NodeId parent, std::span<const TokenId> tokens,
                               BlockRef block, const std::string& scope = "") {
    PrefixCache::GroupBlocks blocks;
    blocks.push_back(std::move(block));
    return cache.insert(scope, parent, tokens, std::move(blocks));
  }
  size_t num_found(const std::vector<TokenId>& tokens, const std::string& scope = "") {
    return cache.find(scope, tokens, 100).blocks.size();
  }
  bool evict() { return cache.evict_one({&pool}); }

  BlockPool pool;
  PrefixCache cache;
};

TEST(PrefixCache, TheLongestKnownChainIsFound) {
  Fixture fixture(8);
  fixture.insert(blocks_of({1, 2, 3}));
  EXPECT_EQ(fixture.num_found(blocks_of({1, 2, 3})), 3u);
  EXPECT_EQ(fixture.num_found(blocks_of({1, 2, 9})), 2u);
  EXPECT_EQ(fixture.num_found(blocks_of({2, 3})), 0u) << "the same tokens behind another parent";
  EXPECT_EQ(fixture.cache.find("", blocks_of({1, 2, 3}), 2).blocks.size(), 2u);
}

TEST(PrefixCache, ABlockThatIsNotFullIsNotFound) {
  Fixture fixture(8);
  fixture.insert(blocks_of({1, 2}));
  std::vector<TokenId> tokens = blocks_of({1, 2});
  tokens.pop_back();
  EXPECT_EQ(fixture.num_found(tokens), 1u);
}

TEST(PrefixCache, I_1_EqualTokensInAnotherScopeAreAnotherChain) {
  Fixture fixture(8);
  fixture.insert(blocks_of({1}), "adapter");
  EXPECT_EQ(fixture.num_found(blocks_of({1}), "adapter"), 1u);
  EXPECT_EQ(fixture.num_found(blocks_of({1})), 0u);
}

TEST(PrefixCache, I_2_PrefixesOfEqualHashAreToldApartByTheirTokens) {
  Fixture fixture(8, [](std::span<const TokenId>) -> uint64_t { return 42; });
  fixture.insert(blocks_of({1, 2}));
  fixture.insert(blocks_of({3}));
  const auto first = fixture.cache.find("", blocks_of({1}), 1).blocks;
  const auto other = fixture.cache.find("", blocks_of({3}), 1).blocks;
  ASSERT_EQ(first.size(), 1u);
  ASSERT_EQ(other.size(), 1u);
  EXPECT_NE(first[0][0].id(), other[0][0].id());
  EXPECT_EQ(fixture.num_found(blocks_of({7})), 0u);
}

TEST(PrefixCache, KnownTokensAnswerWithTheirBlocksAndTheNewOnesAreGivenBack) {
  Fixture fixture(8);
  fixture.insert(blocks_of({1}));
  BlockRef again = fixture.pool.take();
  const int32_t offered = again.id();
  const auto [node, known] = fixture.insert(PrefixCache::kRoot, blocks_of({1}), std::move(again));
  EXPECT_EQ(node, fixture.cache.find("", blocks_of({1}), 1).last);
  ASSERT_EQ(known.size(), 1u);
  EXPECT_NE(known[0].id(), offered);
  EXPECT_EQ(fixture.pool.holders(offered), 0);
}

TEST(PrefixCache, I7_EvictionTakesTheLeastRecentlyUsedAndChildrenBeforeParents) {
  Fixture fixture(8);
  fixture.insert(blocks_of({1, 2}));
  fixture.insert(blocks_of({3, 4}));
  EXPECT_EQ(fixture.num_found(blocks_of({1, 2})), 2u);  // now the most recently used
  ASSERT_TRUE(fixture.evict());
  EXPECT_EQ(fixture.cache.find("", blocks_of({3, 4}), 2).blocks.size(), 1u)
      << "the child went first";
  ASSERT_TRUE(fixture.evict());
  ASSERT_TRUE(fixture.evict());
  EXPECT_EQ(fixture.num_found(blocks_of({1, 2})) + fixture.num_found(blocks_of({3, 4})), 1u);
  ASSERT_TRUE(fixture.evict());
  EXPECT_FALSE(fixture.evict());
  EXPECT_EQ(fixture.pool.num_free(), 8);
}

TEST(PrefixCache, I7_WhatASequenceHoldsIsNotEvicted) {
  Fixture fixture(8);
  fixture.insert(blocks_of({1, 2}));
  const auto held = fixture.cache.find("", blocks_of({1}), 1).blocks;
  EXPECT_TRUE(fixture.evict());
  EXPECT_FALSE(fixture.evict());
  EXPECT_EQ(fixture.cache.num_unshared(fixture.pool, 0), 0);
}

// As a sequence does whose window has passed the rest.
TEST(PrefixCache, WhoHoldsTheEndOfAChainAloneDoesNotKeepItsBeginning) {
  Fixture fixture(8);
  fixture.insert(blocks_of({1, 2, 3, 4}));
  PrefixCache::Found found = fixture.cache.find("", blocks_of({1, 2, 3, 4}), 4);
  const PrefixCache::GroupBlocks held = std::move(found.blocks[3]);
  found.blocks.clear();
  EXPECT_EQ(fixture.cache.num_evictable({&fixture.pool}), 3);
  ASSERT_TRUE(fixture.evict());
  EXPECT_EQ(fixture.num_found(blocks_of({1, 2, 3, 4})), 2u) << "the last two are forgotten";
  EXPECT_EQ(fixture.pool.num_free(), 5) << "one of them is held";
  fixture.cache.check({&fixture.pool});
  EXPECT_TRUE(fixture.evict() && fixture.evict());
  EXPECT_FALSE(fixture.evict());
  EXPECT_EQ(fixture.pool.num_free(), 7);
}

TEST(PrefixCache, AScopeWithoutBlocksIsForgotten) {
  Fixture fixture(4);
  for (int salt = 0; salt < 1000; ++salt) {
    while (fixture.pool.num_free() == 0) ASSERT_TRUE(fixture.evict());
    fixture.insert(blocks_of({1}), std::to_string(salt));
  }
  EXPECT_EQ(fixture.cache.num_scopes(), 4);
}

TEST(PrefixCache, ABlockWhoseParentsWereEvictedIsNotRemembered) {
  Fixture fixture(4);
  const PrefixCache::NodeId first =
      fixture.insert(PrefixCache::kRoot, blocks_of({1}), fixture.pool.take()).node;
  ASSERT_TRUE(fixture.evict());
  const auto [node, known] = fixture.insert(first, blocks_of({2}), fixture.pool.take());
  EXPECT_EQ(node, first) << "nor are those behind it";
  EXPECT_TRUE(known.empty());
  EXPECT_EQ(fixture.cache.num_nodes(), 0);
  fixture.insert(blocks_of({1}));
  fixture.insert(first, blocks_of({2}), fixture.pool.take());
  EXPECT_EQ(fixture.cache.num_nodes(), 1) << "another node with the same tokens is not its parent";
  ASSERT_TRUE(fixture.evict());
  EXPECT_EQ(fixture.pool.num_free(), 4);
}

// A prompt of a hundred thousand tokens is three thousand blocks.
TEST(PrefixCache, InsertingABlockCostsTheSameHoweverLongTheChainIs) {
  static int64_t num_hashes;
  num_hashes = 0;
  Fixture fixture(3000, [](std::span<const TokenId> tokens) {
    ++num_hashes;
    return hash_of_block(tokens);
  });
  fixture.insert(std::vector<TokenId>(3000 * kBlockTokens, 7));
  EXPECT_EQ(fixture.cache.num_nodes(), 3000);
  EXPECT_LE(num_hashes, 2 * 3000);
}

TEST(PrefixCache, ATouchedChainIsEvictedAfterTheOthersAndFromItsEnd) {
  Fixture fixture(8);
  const PrefixCache::NodeId touched = fixture.insert(blocks_of({1, 2}));
  fixture.insert(blocks_of({3, 4}));
  fixture.cache.touch(touched);
  ASSERT_TRUE(fixture.evict() && fixture.evict());
  EXPECT_EQ(fixture.num_found(blocks_of({3, 4})), 0u);
  ASSERT_TRUE(fixture.evict());
  EXPECT_EQ(fixture.num_found(blocks_of({1, 2})), 1u);
}

// Against the plainest meaning, a map from whole prefixes to blocks, with hashes that collide.
TEST(PrefixCache, I4_AgreesWithAMapOfWholePrefixes) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    Fixture fixture(24, [](std::span<const TokenId> tokens) -> uint64_t {
      return static_cast<uint64_t>(tokens[0] % 2);
    });
    std::map<std::vector<TokenId>, int32_t> known;  // prefix -> block
    for (int round = 0; round < 200; ++round) {
      std::vector<TokenId> tokens;
      for (size_t length = 1 + random() % 4; length > 0; --length) {
        tokens.insert(tokens.end(), kBlockTokens, static_cast<TokenId>(random() % 3));
      }
      const auto [found, deepest] = fixture.cache.find("", tokens, 100);
      PrefixCache::NodeId last = deepest;
      for (size_t i = 0; i * kBlockTokens < tokens.size(); ++i) {
        const std::vector<TokenId> prefix(
            tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>((i + 1) * kBlockTokens));
        ASSERT_EQ(known.contains(prefix), i < found.size()) << "seed " << seed;
        if (i < found.size()) {
          ASSERT_EQ(known[prefix], found[i][0].id());
        } else if (BlockRef block = fixture.pool.take()) {
          known[prefix] = block.id();
          const auto own = std::span(tokens).subspan(i * kBlockTokens, kBlockTokens);
          last = fixture.insert(last, own, std::move(block)).node;
        } else {
          break;
        }
      }
      while (fixture.pool.num_free() < 4 && fixture.evict()) {
        std::erase_if(known,
                      [&](const auto& entry) { return fixture.pool.holders(entry.second) == 0; });
      }
      fixture.cache.check({&fixture.pool});
      ASSERT_EQ(fixture.cache.num_nodes(), static_cast<int64_t>(known.size()));
    }
  }
}

}  // namespace
}  // namespace tidemill
