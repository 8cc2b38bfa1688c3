// Whatever call of the system fails, and wherever the process ends: the input is untouched, an old output is whole or
// the new one is complete, and going on gives the bytes of a run that was never interrupted.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "checkpoint/files/fault_ops.h"
#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/files/write_job.h"

namespace megamoe {
namespace {

using test::Fault;
using test::FaultOps;
using test::run_write_job;
using test::snapshot;
using test::TempDir;

using Files = std::map<std::string, std::string>;

// Which files differ; empty when none do.
std::string difference(const Files& found, const Files& wanted) {
  std::string text;
  for (const auto& [name, bytes] : found)
    if (!wanted.contains(name))
      text += name + " should not be there; ";
    else if (wanted.at(name) != bytes)
      text += name + " has other bytes; ";
  for (const auto& [name, bytes] : wanted)
    if (!found.contains(name)) text += name + " is missing; ";
  return text;
}

// One experiment: an input, a place for the output, and what an undisturbed run leaves.
class Experiment {
 public:
  explicit Experiment(bool has_old_output) : has_old_output_(has_old_output) {
    test::write_source_model(input());
    input_files_ = snapshot(input());
    run_write_job(input(), dir_ / "wanted", ExistingOutput::kRefuse);
    wanted_ = snapshot(dir_ / "wanted");
    if (has_old_output_) {
      test::write_source_model(dir_ / "old", 3);
      old_ = snapshot(dir_ / "old");
    }
    reset();
  }

  std::string input() const { return dir_ / "input"; }
  std::string output() const { return dir_ / "output"; }
  ExistingOutput mode() const { return has_old_output_ ? ExistingOutput::kOverwrite : ExistingOutput::kResume; }
  const char* mode_name() const { return has_old_output_ ? "overwrite" : "resume"; }

  void reset() {
    std::filesystem::remove_all(output());
    std::filesystem::remove_all(dir_ / ".output.megamoe-new");
    if (has_old_output_) std::filesystem::copy(dir_ / "old", output());
  }

  int count_calls() {
    FaultOps ops;
    run_write_job(input(), output(), mode(), ops);
    EXPECT_EQ(difference(snapshot(output()), wanted_), "");
    reset();
    return ops.calls();
  }

  // After a run that was disturbed.
  void expect_nothing_lost(const std::string& what) {
    EXPECT_EQ(difference(snapshot(input()), input_files_), "") << what;
    if (!std::filesystem::exists(output())) return;
    Files found = snapshot(output());
    found.erase(".megamoe-lock");
    found.erase(".megamoe-journal");
    // What a kill -9 may leave; expect_completes holds the next run to removing it.
    std::erase_if(found, [](const auto& file) { return file.first.find(".tmp.") != std::string::npos; });
    if (has_old_output_) {
      EXPECT_TRUE(found == old_ || found == wanted_) << what << ": not the old output: " << difference(found, old_)
                                                     << "not the new one: " << difference(found, wanted_);
    } else if (found.contains("config.json")) {
      EXPECT_EQ(difference(found, wanted_), "") << what << ": complete, but wrong";
    }
  }

  // Another run, undisturbed, finishes the job.
  void expect_completes(const std::string& what) {
    try {
      // A run that ended behind the swap has left a complete model, and nothing to resume.
      const bool is_done = std::filesystem::exists(output()) && snapshot(output()) == wanted_;
      if (!is_done) run_write_job(input(), output(), resume_mode());
    } catch (const Error& error) {
      ADD_FAILURE() << what << ": cannot go on: " << error.what();
    }
    EXPECT_EQ(difference(snapshot(output()), wanted_), "") << what;
    EXPECT_EQ(difference(snapshot(input()), input_files_), "") << what;
  }

  // Runs the job in a process of its own and returns its wait status.
  int spawn(const std::string& fault, int kill_after_us = -1) {
    const std::string in = input(), out = output();
    const char* argv[] = {MEGAMOE_WRITE_JOB, in.c_str(), out.c_str(), mode_or_resume_name(), fault.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (dir_ / "stderr").c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                       0666);
    pid_t child = 0;
    const int spawned = ::posix_spawn(&child, MEGAMOE_WRITE_JOB, &actions, nullptr, const_cast<char**>(argv), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    // Without a child there is nobody to kill: signalling process 0 would end this program and its group.
    if (spawned != 0) throw std::runtime_error(std::string("cannot start ") + MEGAMOE_WRITE_JOB);
    if (kill_after_us >= 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(kill_after_us));
      ::kill(child, SIGKILL);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return status;
  }
  std::string child_sentence() const { return test::read_bytes(dir_ / "stderr"); }
  std::string directory() const { return dir_.path(); }

 private:
  bool can_resume_staging() const { return std::filesystem::exists(dir_ / ".output.megamoe-new/.megamoe-journal"); }
  ExistingOutput resume_mode() const { return can_resume_staging() ? ExistingOutput::kResume : mode(); }
  const char* mode_or_resume_name() const { return can_resume_staging() ? "resume" : mode_name(); }

  TempDir dir_;
  bool has_old_output_;
  Files input_files_, wanted_, old_;
};

class WriteFaults : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(, WriteFaults, testing::Bool(),
                         [](const auto& test) { return test.param ? "over_an_old_output" : "into_a_new_directory"; });

void sweep(Fault fault, bool has_old_output, bool may_fail) {
  Experiment experiment(has_old_output);
  const int calls = experiment.count_calls();
  ASSERT_GT(calls, 30);
  int refused = 0;
  for (int at = 1; at <= calls; ++at) {
    const std::string what = "call " + std::to_string(at) + " of " + std::to_string(calls);
    FaultOps ops(fault, at);
    const std::string sentence =
        test::sentence_of([&] { run_write_job(experiment.input(), experiment.output(), experiment.mode(), ops); });
    refused += !sentence.empty();
    EXPECT_TRUE(may_fail || sentence.empty()) << what << ": " << sentence;
    experiment.expect_nothing_lost(what + ": " + sentence);
    experiment.expect_completes(what + ": " + sentence);
    experiment.reset();
  }
  testing::Test::RecordProperty("calls", calls);
  testing::Test::RecordProperty("refused", refused);
  EXPECT_TRUE(!may_fail || refused > calls * 3 / 4) << refused << " of " << calls << " faults were noticed";
}

TEST_P(WriteFaults, disk_full_at_every_call) { sweep(Fault::kNoSpace, GetParam(), true); }
TEST_P(WriteFaults, io_error_at_every_call) { sweep(Fault::kIo, GetParam(), true); }
TEST_P(WriteFaults, quota_exceeded_at_every_call) { sweep(Fault::kQuota, GetParam(), true); }
TEST_P(WriteFaults, interruption_at_every_call_is_invisible) { sweep(Fault::kInterrupted, GetParam(), false); }
TEST_P(WriteFaults, short_write_at_every_call_is_invisible) { sweep(Fault::kShortWrite, GetParam(), false); }

TEST_P(WriteFaults, process_ends_at_every_call) {
  Experiment experiment(GetParam());
  const int calls = experiment.count_calls();
  for (int at = 1; at <= calls; ++at) {
    const std::string what = "exit at call " + std::to_string(at) + " of " + std::to_string(calls);
    const int status = experiment.spawn("exit-at=" + std::to_string(at));
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == FaultOps::kExitStatus) << what;
    experiment.expect_nothing_lost(what);
    experiment.expect_completes(what);
    experiment.reset();
  }
}

// Kills at random moments, several in a row on one output, then one run to the end.
TEST_P(WriteFaults, killed_at_random_moments) {
  Experiment experiment(GetParam());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(experiment.spawn("slow-us=300"), 0);
  const auto full_us =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start).count();
  experiment.reset();

  // A job that is done before its moment comes counts as nothing: on a busy machine many are.
  constexpr int kKills = 30, kKillsPerRound = 2, kMostRounds = 10 * kKills;
  std::mt19937 random(1);
  int killed = 0;
  for (int round = 0; round < kMostRounds && killed < kKills; ++round) {
    std::string what = "round " + std::to_string(round);
    for (int kill = 0; kill < kKillsPerRound; ++kill) {
      const int after_us = static_cast<int>(random() % static_cast<unsigned>(full_us));
      what += ", killed after " + std::to_string(after_us) + " us";
      const int status = experiment.spawn("slow-us=300", after_us);
      killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
      experiment.expect_nothing_lost(what);
    }
    experiment.expect_completes(what);
    experiment.reset();
  }
  RecordProperty("killed", killed);
  EXPECT_GE(killed, kKills);
}

TEST_P(WriteFaults, file_size_limit_is_a_sentence_and_not_a_signal) {
  Experiment experiment(GetParam());
  const int status = experiment.spawn("file-limit=1000");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 4);
  EXPECT_NE(experiment.child_sentence().find("this process may write files of at most 1000 (ulimit -f)"),
            std::string::npos)
      << experiment.child_sentence();
  experiment.expect_nothing_lost("file limit");
  experiment.expect_completes("file limit");
}

TEST(write_faults, read_only_directory_is_a_sentence) {
  Experiment experiment(/*has_old_output=*/false);
  std::filesystem::create_directory(experiment.output());
  ASSERT_EQ(::chmod(experiment.directory().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(experiment.output().c_str(), 0555), 0);
  // Root may write anywhere, so the job drops to another user first.
  const int status = experiment.spawn(::geteuid() == 0 ? "user=65534" : "");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 4);
  EXPECT_NE(experiment.child_sentence().find("output/.megamoe-lock: cannot open: Permission denied"), std::string::npos)
      << experiment.child_sentence();
  EXPECT_TRUE(snapshot(experiment.output()).empty());
}

// Every write goes to a device that is always full.
class FullDiskOps : public FileOps {
 public:
  int allocate(int, off_t) override { return 0; }
  ssize_t write_at(int, const void* data, std::size_t bytes, off_t offset) override {
    return FileOps::write_at(full_.get(), data, bytes, offset);
  }

 private:
  UniqueFd full_{::open("/dev/full", O_WRONLY | O_CLOEXEC)};
};

TEST(write_faults, full_device_is_a_sentence) {
  Experiment experiment(/*has_old_output=*/true);
  FullDiskOps ops;
  const std::string sentence = test::sentence_of(
      [&] { run_write_job(experiment.input(), experiment.output(), ExistingOutput::kOverwrite, ops); });
  EXPECT_NE(sentence.find("No space left on device"), std::string::npos) << sentence;
  experiment.expect_nothing_lost("full device");
}

}  // namespace
}  // namespace megamoe
