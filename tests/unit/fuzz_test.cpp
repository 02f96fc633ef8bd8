// Replays the fuzzer's seeds and findings: see tests/fuzz/README.md.
#include "../fuzz/fuzz.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

namespace {

/// FUZZ_FOLDER is the path of tests/fuzz, because the tests run in another directory.
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

TEST(Fuzz, OldFindingsStayFixed) { replay("regressions"); }
