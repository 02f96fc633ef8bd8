// The fuzzer's seeds and what it found, replayed: see tests/fuzz/README.md.
#include "../fuzz/fuzz.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

namespace {

/// The tests run elsewhere than where they were built: FUZZ_FOLDER is where tests/fuzz is.
void replay(const std::string& folder) {
    std::set<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(FUZZ_FOLDER "/" + folder))
        if (entry.path().extension() != ".md") files.insert(entry.path());
    EXPECT_FALSE(files.empty());
    fuzz::Servers servers;
    for (const auto& file : files) {
        std::ifstream stream(file, std::ios::binary);
        const std::string bytes{std::istreambuf_iterator(stream), {}};
        EXPECT_FALSE(bytes.empty()) << file;
        EXPECT_NO_THROW(fuzz::hold_in_every_way(servers, bytes)) << file;
    }
}

}  // namespace

TEST(Fuzz, TheCorpusIsAnsweredTheSameInEveryWay) { replay("corpus"); }

TEST(Fuzz, WhatWasFoundStaysMended) { replay("regressions"); }
